package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/lockstep-tls/lockstep/test/bench/visit"
	"github.com/lockstep-tls/lockstep/test/traffic"
)

// edgeResume is clients that carry their sessions between two lockstep-edges while the ring is
// rotated three times.
func edgeResume(b *bench) {
	s := b.stand(b.data(1))
	nodes := map[string]string{}
	for range 2 {
		e := s.edge("")
		nodes[e.name] = e.addr
	}
	t := traffic.New(traffic.Config{
		Nodes: nodes, Hosts: []string{oneHost}, Roots: b.ca.Pool(), Lifetime: 2 * time.Hour,
		Workers: 3, Hops: 200, Pause: 2 * time.Millisecond,
	})
	driving, stop := context.WithCancel(b.ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop()
	wg.Go(func() { t.Run(driving) })
	for range 3 {
		b.sleep(2 * time.Second)
		s.plane.start("rotate")
		s.plane.rest()
	}
	b.sleep(2 * time.Second)
	counts, words := t.Counts()
	for _, v := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		n, kind := counts[v], traffic.Kinds[v]
		if n.Offered == 0 {
			check(fmt.Errorf("%s: no ticket was offered", kind))
		}
		r := single(fmt.Sprintf("%.4g %%", 100*float64(n.Offered-n.Refused)/float64(n.Offered)),
			"two lockstep-edges through three rotations, %s: live tickets that resume", kind).
			absolute("100 %", n.Refused > 0 || n.Failed > 0)
		b.add(r.noted("%d were offered, %d refused; %d handshakes failed", n.Offered, n.Refused, n.Failed))
		if r.short {
			b.say("%q", words)
		}
	}
}

// failoverLine is what a round of test/e2e's failovers says.
var failoverLine = regexp.MustCompile(`\S+, [^:]+: all clients are with \S+ after \S+; time without service (\S+); ` +
	`sessions: \{resumed:\d+ crossed:(\d+) full:(\d+) failed:\d+\}`)

// failover takes the figures of the tests of test/e2e: two proxies behind a virtual address that
// real keepalived holds with adverts each 100 ms, whose active one fails, under clients that come
// with sessions. The tests fail where a client has to make a full handshake.
func failover(b *bench) {
	for _, of := range []struct{ proxies, test string }{
		{"lockstep-edges", "TestFailoverOfEdges"}, {"Envoys", "TestFailoverOfEnvoys"},
	} {
		out := b.output("go", "test", "-count=1", "-v", "-run", "^"+of.test+"$", "./test/e2e")
		crossed, full := 0, 0
		var without []float64
		for _, m := range failoverLine.FindAllStringSubmatch(out, -1) {
			without = append(without, must(time.ParseDuration(m[1])).Seconds())
			crossed += must(strconv.Atoi(m[2]))
			full += must(strconv.Atoi(m[3]))
		}
		what := fmt.Sprintf("two %s behind a virtual address, whose active one fails %d times: ", of.proxies, len(without))
		if len(without) == 0 {
			b.add(row{what: what, note: "not measured: it takes root and keepalived"})
			continue
		}
		worst := slices.Max(without)
		b.add(
			single(plain(100*float64(crossed)/float64(crossed+full))+" %", "%sclients that resume on the standby", what).
				absolute("100 %", full > 0).noted("%d of %d; test/e2e %s", crossed, crossed+full, of.test),
			single(inMS(worst)+" ("+inMS(median(without))+")", "— time without service, longest (median)").
				absolute("≤ 1 s", worst > 1),
		)
	}
}

// edgeHosts is the memory of a lockstep-edge that holds as many certificates as it may, and the
// same once ten times as many hosts were seen. Each host has a certificate of its own.
func edgeHosts(b *bench) {
	many := b.size(100_000, 2000)
	bound := many / 10
	s := b.stand(b.dataOf(many, b.issue))
	e := s.edge(fmt.Sprintf("limits: {names: %d}\n", bound))
	seen := func(from, count int) []float64 {
		s.visit(e, visit.Command{Op: "shake", Pattern: certPattern, From: from, Names: count, Count: count, Parallel: 16})
		return []float64{b.settled(e.Process)}
	}
	few := seen(0, bound)
	b.add(compare(figures{seen(bound, many-bound), few}, atMost(1.3), inMB,
		"lockstep-edge, memory with room for %d certificates: %d hosts seen, against %d", bound, many, bound))
}

// edgeIdle is what a connection costs that has carried a request and waits for another.
func edgeIdle(b *bench) {
	count := b.size(10_000, 1000)
	s := b.stand(b.data(1))
	for _, protocol := range []string{"HTTP/1.1", "HTTP/2"} {
		e := s.edge("timeouts: {idle: 10m}\n")
		hold := func(count int) float64 {
			s.visit(e, visit.Command{Op: "hold", Pattern: oneHost, Count: count, Parallel: 16, H2: protocol == "HTTP/2"})
			return b.settled(e.Process)
		}
		base := hold(1)
		each := (hold(count) - base) / float64(count)
		b.add(single(inKB(each), "lockstep-edge, memory of an idle connection, %s, %d of them", protocol, count).
			absolute("≤ 60 KB", each > 60<<10))
		s.visit(e, visit.Command{Op: "drop"})
		check(e.Kill())
	}
}
