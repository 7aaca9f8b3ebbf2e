package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/lockstep-tls/lockstep/probe"
	"github.com/lockstep-tls/lockstep/test/fleet"
)

const (
	seedHost   = "shop.example"
	clients    = 30 // each keeps the newest session, as a browser does
	workers    = 4  // handshakes at a time
	handshakes = 3000
)

// keyKinds are the private keys of certificates that servers have.
var keyKinds = []string{"P-256", "RSA-2048"}

// seed is what sharing is good for: three Envoys behind a balancer that takes them in turn, the
// same clients; once with one ring for all three, once with a private key each, as Envoy makes it
// when nothing is configured. Full handshakes alone are there for reference.
func seed(b *bench) {
	pairs := map[string]fleet.Pair{}
	for _, kind := range keyKinds {
		pairs[kind] = must(b.ca.Issue(fleet.Leaf{Names: []string{seedHost}, RSA: kind == "RSA-2048"}))
	}
	shared, private := b.trio("shared", b.ours("", nil).xds, pairs), b.trio("private", "", pairs)
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		for _, kind := range keyKinds {
			c := probe.Config{SNI: seedHost, RootCAs: b.ca.Pool(), Versions: []uint16{version}}
			var sums [3]toll
			const turns = 3
			for turn := range turns + 1 { // the first warms up
				for i, t := range []struct {
					*trio
					resume bool
				}{{shared, true}, {private, true}, {shared, false}} {
					before := t.cpu()
					got := must(t.visit(b.ctx, kind, c, b.size(handshakes/turns, 90), t.resume))
					got.cpu = t.cpu() - before
					if turn > 0 {
						sums[i].add(got)
					}
				}
			}
			b.add(compare(fmt.Sprintf("three Envoys, %s, %s: CPU per handshake, one shared ring against private keys", tls.VersionName(version), kind),
				[]float64{sums[0].perHandshake()}, []float64{sums[1].perHandshake()}, reported, inUS).
				noted("resumed: shared %.1f %%, private %.1f %%; full handshakes only: %s", sums[0].share(), sums[1].share(), inUS(sums[2].perHandshake())))
		}
	}
}

// trio is three Envoys, with a listener for each kind of key.
type trio struct {
	nodes []*fleet.Process
	addrs map[string][]string // kind of key: host:port on each node
	next  atomic.Uint64       // whose turn it is
}

// trio starts three Envoys whose ring comes from xds, or which keep their keys to themselves. They
// answer each request themselves: only handshakes are to cost something.
func (b *bench) trio(name, xds string, pairs map[string]fleet.Pair) *trio {
	t := &trio{addrs: map[string][]string{}}
	for i := range 3 {
		c := envoyConfig{Node: fmt.Sprintf("%s-%d", name, i+1), XDS: xds, Ring: ring}
		for _, kind := range keyKinds {
			addr := newAddr()
			t.addrs[kind] = append(t.addrs[kind], addr)
			c.Listeners = append(c.Listeners, envoyListener{addr, string(pairs[kind].Chain), string(pairs[kind].Key)})
		}
		t.nodes = append(t.nodes, b.envoyOf(c))
	}
	for _, p := range t.nodes {
		b.ready(p)
	}
	return t
}

// toll is what handshakes cost the three.
type toll struct {
	handshakes, resumed int
	cpu                 time.Duration
}

func (t *toll) add(o toll) {
	t.handshakes += o.handshakes
	t.resumed += o.resumed
	t.cpu += o.cpu
}

func (t toll) perHandshake() float64 { return t.cpu.Seconds() / float64(t.handshakes) }
func (t toll) share() float64        { return 100 * float64(t.resumed) / float64(t.handshakes) }

// visit makes n handshakes of clients that begin without a session. Which client comes next is
// chance, which node is not.
func (t *trio) visit(ctx context.Context, kind string, c probe.Config, n int, resume bool) (all toll, err error) {
	var mu sync.Mutex
	sessions := make([]*probe.Session, clients)
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(workers)
	for range n {
		g.Go(func() error {
			client := rand.IntN(clients)
			mu.Lock()
			offer := sessions[client]
			mu.Unlock()
			if !resume {
				offer = nil
			}
			r, err := probe.Dial(ctx, t.addrs[kind][t.next.Add(1)%uint64(len(t.nodes))], c, offer)
			if err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			all.handshakes++
			if r.Resumed {
				all.resumed++
			}
			if r.Session != nil {
				sessions[client] = r.Session
			}
			return nil
		})
	}
	return all, g.Wait()
}

func (t *trio) cpu() (sum time.Duration) {
	for _, n := range t.nodes {
		sum += cpuOf(n.PID())
	}
	return sum
}
