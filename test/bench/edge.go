package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/lockstep-tls/lockstep/test/bench/visit"
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
			b.add(paired(figures{cpu[sides[0]], cpu[sides[1]]}, atMost(1.02), inUS, "lockstep-edge, CPU per full handshake, "+
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
	all = slices.DeleteFunc(all, func(p *peer) bool { return p.name == bareName }) // it proxies nothing
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
