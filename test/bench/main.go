// Bench measures lockstepd against stock go-control-plane (LinearCache, delta, SDS service, default
// server options), and lockstep-edge against nginx, Caddy, Envoy and a bare net/http server. It
// prints a table of what was measured and what must be reached. A whole run is also written to
// test/bench/RESULTS.md. Figures that fall short stay in the table.
//
// Servers, the simulated nodes and the bench itself are processes of their own. All but lockstepd,
// lockstep-edge and the peers are this binary, run again in another role (roles.go). Single rounds
// scatter, so servers take turns, and medians count.
//
// A subject is a file: push, memory, ask, demand, storm, replicas, inventory, edge, seed. Each has
// a function for a line of the list below, which adds rows to the table. A step that fails ends its
// line (check), and the other lines still run. Subjects share bench.go (the run, its steps and
// data), planes.go (control planes and rounds of pushes), peers.go (proxies), roles.go, proc.go and
// report.go.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// lines are the parts of the bench that can be run alone.
var lines = []struct {
	name, about string
	run         func(*bench)
}{
	{"push", "one push of the ring, server CPU, a whole rotation", pushes},
	{"names", "one push of the ring to nodes that hold 100 certificates each", pushesWithNames},
	{"memory", "server memory per node", memory},
	{"ask", "one stream that asks for names one by one", askOneByOne},
	{"unknown", "unknown names refused on one stream", askUnknown},
	{"renew", "names held by one node on demand: asking, renewing, memory", renewHeld},
	{"cold", "the first handshake of a host on a real Envoy, and a full one of a host that is there", coldHosts},
	{"storm", "nodes that connect at once over mTLS", storm},
	{"replicas", "two replicas on a Redis against one, and a large policy", replicas},
	{"refuge", "nodes whose replica is killed", refuge},
	{"import", "a million certificates by lockstep cert import, into the embedded store and into Redis", importMany},
	{"start", "lockstepd's start with many certificates in the store", start},
	{"held", "memory per certificate that a node holds", heldMemory},
	{"edge-load", "lockstep-edge: CPU per full handshake, certificates on demand against those of the start", edgeLoad},
	{"edge-handshakes", "CPU per full and per resumed handshake: lockstep-edge and its peers", edgeHandshakes},
	{"edge-requests", "proxied requests on kept-alive connections: lockstep-edge and its peers", edgeRequests},
	{"edge-resume", "resumption across two lockstep-edges through three rotations", edgeResume},
	{"edge-failover", "two proxies behind a virtual address: lockstep-edges, Envoys", failover},
	{"edge-hosts", "lockstep-edge's memory, by how many hosts it has seen", edgeHosts},
	{"edge-idle", "lockstep-edge's memory per idle connection", edgeIdle},
	{"seed", "one shared ring against a private key each, on three Envoys", seed},
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var err error
	if len(os.Args) == 3 && roles[os.Args[1]] != nil {
		err = roles[os.Args[1]](ctx, os.Args[2])
	} else {
		err = orchestrate(ctx)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func orchestrate(ctx context.Context) error {
	var names []string
	for _, l := range lines {
		names = append(names, l.name)
	}
	all := strings.Join(names, ",")
	only := flag.String("only", "", "run these `lines` and write no file: "+all)
	quick := flag.Bool("quick", false, "small sizes, for work on the bench itself; writes no file")
	into := flag.String("profile", "", "take lockstep-edge's CPU profile into this `file`, and do nothing else")
	flag.Parse()
	chosen := strings.Split(cmp.Or(*only, all), ",")
	for _, name := range chosen {
		if !slices.Contains(names, name) {
			return fmt.Errorf("there is no line %q; there are %s", name, all)
		}
	}
	b := &bench{ctx: ctx, quick: *quick, began: time.Now(), kept: map[int]string{}}
	defer b.close()
	if err := attempt(b.setUp); err != nil {
		return err
	}
	if *into != "" {
		return attempt(func() { profile(b, *into) })
	}
	var failed []error
	for _, l := range lines {
		if !slices.Contains(chosen, l.name) {
			continue
		}
		b.say("%s: %s", l.name, l.about)
		err := attempt(func() { l.run(b) })
		if ctx.Err() != nil {
			return errors.New("interrupted")
		}
		if err != nil {
			for _, p := range b.fleet.Processes() {
				b.say("the end of %s's log:\n%s", p.Name(), p.LogTail(5))
			}
			// a row is one line
			words := "failed: " + strings.Join(strings.Fields(err.Error()), " ")
			b.add(row{what: l.name, note: words})
			failed = append(failed, fmt.Errorf("%s %s", l.name, words))
		}
		if err := b.fleet.Close(); err != nil {
			return err
		}
	}
	text := b.text()
	fmt.Print(text)
	if !*quick && *only == "" {
		failed = append(failed, os.WriteFile(filepath.Join(b.root, "test", "bench", "RESULTS.md"), []byte(text), 0o644))
	}
	return errors.Join(failed...)
}
