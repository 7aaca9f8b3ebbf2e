package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/lockstep-tls/lockstep/test/bench/visit"
	"github.com/lockstep-tls/lockstep/test/fleet"
)

const oneHost = "n000000.bench.example"

// pairs of rounds, of which each begins with another side in turn.
const pairs = 9

// stand is what the edge's lines have in common: a control plane with certificates, clients, and an
// upstream.
type stand struct {
	*bench
	plane    *plane
	clients  *visitors
	upstream string
}

func (b *bench) stand(data string, more ...string) *stand {
	s := &stand{b, b.lockstepd(fleet.Lockstepd{Bin: b.bin, Data: data, Args: more}), b.visitors(), newAddr()}
	b.role("upstream", s.upstream, clientCore, "")
	b.listening(s.upstream)
	return s
}

// visit has the clients do something at p.
func (s *stand) visit(p *peer, c visit.Command) visit.Reply {
	c.Addr = p.addr
	r, err := s.clients.Do(c)
	check(explained(err, p.Process))
	return r
}

// cost is the CPU of p, in seconds, for what clients do, until it rests again.
func (s *stand) cost(p *peer, c visit.Command) (float64, visit.Reply) {
	before := cpuOf(p.PID())
	r := s.visit(p, c)
	s.sleep(50 * time.Millisecond)
	return (cpuOf(p.PID()) - before).Seconds(), r
}

// figures are what rounds measured, by server.
type figures map[*peer][]float64

// turns calls f for each server in each round. Each round begins with the next one.
func turns(rounds int, all []*peer, f func(round int, p *peer)) {
	for round := range rounds {
		for i := range all {
			f(round, all[(i+round)%len(all)])
		}
	}
}

// edgeLoad is what it costs that certificates are loaded on demand: two lockstep-edges, of which
// one was given all of them at its start. Each handshake is full, and the on-demand ones have been
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
			c := visit.Command{Op: "shake", Pattern: certPattern, Names: hosts, Count: b.size(4000, 200), Parallel: conns}
			cpu := figures{}
			turns(pairs, sides, func(_ int, p *peer) {
				used, _ := s.cost(p, c)
				cpu[p] = append(cpu[p], used/float64(c.Count))
			})
			b.add(paired(fmt.Sprintf("lockstep-edge, CPU per full handshake, %d connections at a time, %d hosts: loaded on demand, against preloaded", conns, hosts),
				cpu[sides[0]], cpu[sides[1]], atMost(1.02), inUS))
		}
	}
}

// edgeHandshakes is TLS 1.3 with X25519 and a P-256 certificate, one connection for each.
func edgeHandshakes(b *bench) {
	s := b.stand(b.data(1))
	all, missing := s.field()
	for _, kind := range []string{"full", "resumed"} {
		c := visit.Command{Op: "shake", Pattern: oneHost, Count: b.size(4000, 200), Parallel: 8, Resume: kind == "resumed"}
		cpu := figures{}
		turns(pairs+1, all, func(round int, p *peer) {
			used, _ := s.cost(p, c)
			if round > 0 { // the first warms up
				cpu[p] = append(cpu[p], used/float64(c.Count))
			}
		})
		what := "lockstep-edge, CPU per " + kind + " handshake"
		for _, p := range all[1:] {
			l := map[string]limit{"Caddy": atMost(0.90), bareName: atMost(1.08)}[p.name]
			b.add(paired(fmt.Sprintf("%s (TLS 1.3), against %s", what, p.versioned()), cpu[all[0]], cpu[p], l, inUS))
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
	var proxies []*peer
	for _, p := range all {
		if p.name != bareName { // it proxies nothing
			proxies = append(proxies, p)
			s.visit(p, visit.Command{Op: "hold", Pattern: oneHost, Count: conns, Parallel: 8})
		}
	}
	c := visit.Command{Op: "request", Pattern: oneHost, Time: time.Duration(b.size(1000, 300)) * time.Millisecond}
	rate, cpu, busy := figures{}, figures{}, figures{}
	turns(pairs+1, proxies, func(round int, p *peer) {
		used, r := s.cost(p, c)
		if n := float64(r.Requests); round > 0 { // the first warms up
			rate[p], cpu[p] = append(rate[p], n/c.Time.Seconds()), append(cpu[p], used/n)
			busy[p] = append(busy[p], 100*used/c.Time.Seconds())
		}
	})
	edge := proxies[0]
	for _, p := range proxies[1:] {
		l := map[string]limit{"Caddy": atLeast(1.3), "nginx": atLeast(0.4)}[p.name]
		b.add(
			paired(fmt.Sprintf("lockstep-edge, proxied requests, %d kept-alive connections, against %s", conns, p.versioned()), rate[edge], rate[p], l, perSecond).
				noted("of its core the edge used %.0f %%, %s %.0f %%", median(busy[edge]), p.name, median(busy[p])),
			paired("— CPU of each", cpu[edge], cpu[p], reported, inUS),
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
// requests: what the compiler optimizes it for.
func profile(b *bench, file string) {
	raw := b.profiled()
	s := b.stand(b.data(1))
	edge := s.edge("")
	mark := func() { check(edge.Signal(profileSignal)) }
	mark()
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
	mark()
	b.convert(raw, file)
}
