package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/lockstep-tls/lockstep/test/bench/visit"
	"github.com/lockstep-tls/lockstep/test/traffic"
)

var oneHost = certName(0)

// stand is what the edge's lines have in common: a control plane with certificates, clients, and an
// upstream.
type stand struct {
	*bench
	plane    *plane
	clients  worker
	upstream string
}

func (b *bench) stand(data string) *stand {
	s := &stand{b, b.ours(data), b.worker("visit", clientCore), newAddr()}
	b.role("upstream", s.upstream, clientCore)
	b.listening(s.upstream)
	return s
}

// visit has the clients do something at p.
func (s *stand) visit(p *peer, c visit.Command) (r visit.Reply) {
	c.Addr = p.addr
	s.clients.order(c, &r)
	return r
}

// perServer are the figures of the rounds.
type perServer map[*peer][]float64

// pairs is how many rounds count.
const pairs = 9

// turns has the clients do something at each server in each round, after a round that warms up. It
// calls f with the CPU that the server used until it rested again, in seconds. Each round begins
// with the next server.
func (s *stand) turns(all []*peer, c visit.Command, f func(p *peer, used float64, r visit.Reply)) {
	for round := range 1 + pairs {
		for i := range all {
			p := all[(i+round)%len(all)]
			before := cpuOf(p.PID())
			r := s.visit(p, c)
			s.sleep(50 * time.Millisecond)
			if used := cpuOf(p.PID()) - before; round > 0 {
				f(p, used, r)
			}
		}
	}
}

// handshakes takes turns and returns the CPU of each handshake.
func (s *stand) handshakes(all []*peer, c visit.Command) perServer {
	cpu := perServer{}
	c.Op, c.Count = "shake", s.size(4000, 200)
	s.turns(all, c, func(p *peer, used float64, _ visit.Reply) { cpu[p] = append(cpu[p], used/float64(c.Count)) })
	return cpu
}

// edgeLoad is what it costs that certificates are loaded on demand: two lockstep-edges, of which
// one was given all of them at its start. Each handshake is full, and the hosts on demand have been
// seen once before.
func edgeLoad(b *bench) {
	s := b.stand(b.data(1000))
	var all []string
	for i := range 1000 {
		all = append(all, certName(i))
	}
	sides := []*peer{s.edge(""), s.edge("preload: [" + strings.Join(all, ", ") + "]\n")}
	for _, p := range sides {
		s.visit(p, visit.Command{Op: "shake", Pattern: certPattern, Names: 1000, Count: 2000, Parallel: 16})
	}
	for _, conns := range []int{10, 100, 500, 1000} {
		for _, hosts := range []int{1, 1000} {
			cpu := s.handshakes(sides, visit.Command{Pattern: certPattern, Names: hosts, Parallel: conns})
			b.add(paired(figures{cpu[sides[0]], cpu[sides[1]]}, atMost(1.02), inUS,
				"lockstep-edge, CPU per full handshake, "+
					"%d connections at a time, %d hosts: loaded on demand, against preloaded", conns, hosts))
		}
	}
}

// edgeHandshakes is TLS 1.3 with X25519 and a P-256 certificate, one connection for each.
func edgeHandshakes(b *bench) {
	s := b.stand(b.data(1))
	all, missing := s.field()
	for _, kind := range []string{"full", "resumed"} {
		cpu := s.handshakes(all, visit.Command{Pattern: oneHost, Parallel: 8, Resume: kind == "resumed"})
		what := "lockstep-edge, CPU per " + kind + " handshake"
		for _, p := range all[1:] {
			l := map[string]limit{"Caddy": atMost(0.90), bareName: atMost(1.08)}[p.name]
			b.add(paired(figures{cpu[all[0]], cpu[p]}, l, inUS, "%s (TLS 1.3), against %s", what, p.versioned()))
		}
		b.notMeasured(what, missing)
	}
}

// edgeRequests is small requests on connections that are kept alive on both sides. Each server has
// as much to do as its core can.
func edgeRequests(b *bench) {
	const conns = 64
	s := b.stand(b.data(1))
	all, missing := s.field()
	// it proxies nothing
	all = slices.DeleteFunc(all, func(p *peer) bool { return p.name == bareName })
	for _, p := range all {
		s.visit(p, visit.Command{Op: "hold", Pattern: oneHost, Count: conns, Parallel: 8})
	}
	c := visit.Command{Op: "request", Pattern: oneHost, Time: time.Duration(b.size(1000, 300)) * time.Millisecond}
	rate, cpu, busy := perServer{}, perServer{}, perServer{}
	s.turns(all, c, func(p *peer, used float64, r visit.Reply) {
		n := float64(r.Requests)
		rate[p], cpu[p] = append(rate[p], n/c.Time.Seconds()), append(cpu[p], used/n)
		busy[p] = append(busy[p], 100*used/c.Time.Seconds())
	})
	edge := all[0]
	for _, p := range all[1:] {
		l := map[string]limit{"Caddy": atLeast(1.3), "nginx": atLeast(0.4)}[p.name]
		b.add(
			paired(figures{rate[edge], rate[p]}, l, perSecond,
				"lockstep-edge, proxied requests, %d kept-alive connections, against %s", conns, p.versioned()).
				noted("of its core the edge used %.0f %%, %s %.0f %%", median(busy[edge]), p.name, median(busy[p])),
			paired(figures{cpu[edge], cpu[p]}, reported, inUS, "— CPU of each"),
		)
	}
	b.notMeasured("lockstep-edge, proxied requests", missing)
}

// notMeasured adds rows for the peers that are not there.
func (b *bench) notMeasured(what string, missing []error) {
	for _, m := range missing {
		b.add(row{what: what}.noted("not measured: %v", m))
	}
}

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
		what := fmt.Sprintf("two %s behind a virtual address, whose active one fails %d times: ",
			of.proxies, len(without))
		if len(without) == 0 {
			b.add(row{what: what, note: "not measured: it takes root and keepalived"})
			continue
		}
		worst := slices.Max(without)
		b.add(
			single(plain(100*float64(crossed)/float64(crossed+full))+" %",
				"%sclients that resume on the standby", what).
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
		s.visit(e, visit.Command{
			Op: "shake", Pattern: certPattern, From: from, Names: count, Count: count, Parallel: 16,
		})
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
			s.visit(e, visit.Command{
				Op: "hold", Pattern: oneHost, Count: count, Parallel: 16, H2: protocol == "HTTP/2",
			})
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

// profile writes to file a CPU profile of a lockstep-edge under handshakes, full and resumed, and
// requests. It is what the compiler optimizes lockstep-edge for. The one here is built to profile
// itself between two signals (cmd/lockstep-edge/profile.go).
func profile(b *bench, file string) {
	b.output("env", "CGO_ENABLED=0", "go", "build", "-trimpath", "-tags=profile", "-pgo=off", "-o", b.bin,
		"./cmd/lockstep-edge")
	raw := filepath.Join(b.fleet.Dir(), "edge.pprof")
	check(os.Setenv("LOCKSTEP_EDGE_PROFILE", raw))
	s := b.stand(b.data(1))
	edge := s.edge("")
	check(edge.Signal(syscall.SIGUSR1))
	for _, c := range []visit.Command{
		{Op: "shake", Count: 60_000, Parallel: 8},
		{Op: "shake", Count: 60_000, Parallel: 8, Resume: true},
		{Op: "hold", Count: 64, Parallel: 8},
		{Op: "request", Time: 15 * time.Second},
	} {
		c.Pattern = oneHost
		b.say("profile: %s", c.Op)
		s.visit(edge, c)
	}
	check(edge.Signal(syscall.SIGUSR1))
	b.until(func() error { _, err := os.Stat(raw); return err })
	b.output("go", "tool", "pprof", "-proto", "-output", must(filepath.Abs(file)), raw)
}
