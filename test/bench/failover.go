package main

import (
	"context"
	"fmt"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"time"
)

// failoverLine is what a round of test/e2e's failovers says.
var failoverLine = regexp.MustCompile(`\S+, ([^:]+): all clients are with \S+ after \S+; time without service (\S+); sessions: \{resumed:\d+ crossed:(\d+) full:(\d+) failed:\d+\}`)

// failover takes the figures of the tests of test/e2e: two proxies behind a virtual address that real keepalived holds with adverts each 100 ms, whose active one fails, under
// clients that come with sessions. The tests fail where a client has to make a full handshake.
func failover(ctx context.Context, b *bench) (rows []row, err error) {
	for _, kind := range []struct{ name, test string }{{"lockstep-edges", "TestFailoverOfEdges"}, {"Envoys", "TestFailoverOfEnvoys"}} {
		cmd := exec.CommandContext(ctx, "go", "test", "-count=1", "-v", "-run", "^"+kind.test+"$", "./test/e2e")
		cmd.Dir = b.root
		out, err := cmd.CombinedOutput()
		if err != nil {
			return rows, fmt.Errorf("%s: %w\n%s", kind.test, err, out)
		}
		crossed, full := 0, 0
		var without []float64
		for _, m := range failoverLine.FindAllSubmatch(out, -1) {
			d, err := time.ParseDuration(string(m[2]))
			if err != nil {
				return rows, err
			}
			without = append(without, d.Seconds())
			for i, n := range []*int{&crossed, &full} {
				v, err := strconv.Atoi(string(m[3+i]))
				if err != nil {
					return rows, err
				}
				*n += v
			}
		}
		what := fmt.Sprintf("two %s behind a virtual address, whose active one fails %d times: ", kind.name, len(without))
		if len(without) == 0 {
			rows = append(rows, row{what: what, note: "not measured: it takes root and keepalived"})
			continue
		}
		worst := slices.Max(without)
		rows = append(rows,
			row{what: what + "clients that resume on the standby", ours: fmt.Sprintf("%.0f %%", 100*float64(crossed)/float64(crossed+full)), must: "100 %", short: full > 0,
				note: fmt.Sprintf("%d of %d; test/e2e %s", crossed, crossed+full, kind.test)},
			row{what: "— time without service, longest (median)", ours: inMS(worst) + " (" + inMS(median(without)) + ")", must: "≤ 1 s", short: worst > 1})
	}
	return rows, nil
}
