package main

import (
	"context"
	"crypto/tls"
	"math/rand/v2"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/lockstep-tls/lockstep/probe"
	"github.com/lockstep-tls/lockstep/test/fleet"
)

const (
	seedHost = "shop.example"
	clients  = 30 // clients keep their newest sessions, as browsers do.
)

// keyKinds are the private keys of certificates that servers have.
var keyKinds = []string{"P-256", "RSA-2048"}

// seed is what sharing is good for. The same clients meet three Envoys behind a balancer that takes
// them in turn: once with one ring for all three, once with a private key each, as Envoy makes it
// when nothing is configured. Full handshakes alone are there for reference.
func seed(b *bench) {
	certs := map[string]listener{}
	for _, kind := range keyKinds {
		pair := must(b.ca.Issue(fleet.Leaf{Names: []string{seedHost}, RSA: kind == "RSA-2048"}))
		certs[kind] = listener{Chain: b.file("tls.crt", pair.Chain), Key: b.file("tls.key", pair.Key)}
	}
	const turns = 3
	count := b.size(1000, 90)
	shared, private := b.trio("shared", b.ours("").XDS, certs), b.trio("private", "", certs)
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		for _, kind := range keyKinds {
			c := probe.Config{SNI: seedHost, RootCAs: b.ca.Pool(), Versions: []uint16{version}}
			var cpu, resumed [3]float64 // for each handshake
			for turn := range 1 + turns {
				for i, t := range []*trio{shared, private, shared} {
					before := t.cpu()
					n := must(t.visit(b.ctx, kind, c, count, i < 2))
					if used := t.cpu() - before; turn > 0 { // the first warms up
						cpu[i] += used / float64(turns*count)
						resumed[i] += float64(n) / float64(turns*count)
					}
				}
			}
			b.add(compare(figures{cpu[:1], cpu[1:2]}, reported, inUS, "three Envoys, %s, %s: CPU per handshake, "+
				"one shared ring against private keys", tls.VersionName(version), kind).
				noted("resumed: shared %.1f %%, private %.1f %%; full handshakes only: %s",
					100*resumed[0], 100*resumed[1], inUS(cpu[2])))
		}
	}
}

// trio is three Envoys, with a listener for each kind of key.
type trio struct {
	nodes []*fleet.Process
	addrs map[string][]string // addrs are host:port on each node, by kind of key.
	next  atomic.Uint64       // next tells whose turn it is.
}

// trio starts three Envoys whose ring comes from xds, or which keep their keys to themselves. They
// answer each request themselves, so that handshakes alone cost something.
func (b *bench) trio(name, xds string, certs map[string]listener) *trio {
	t := &trio{addrs: map[string][]string{}}
	for range 3 {
		var all []listener
		for kind, l := range certs {
			l.Addr = newAddr()
			t.addrs[kind], all = append(t.addrs[kind], l.Addr), append(all, l)
		}
		t.nodes = append(t.nodes, b.envoy(site{Node: name, XDS: xds}, all...))
	}
	for _, p := range t.nodes {
		b.soon(p.Ready)
	}
	return t
}

// visit makes n handshakes, four at a time, of clients that begin without a session. It returns how
// many resumed. Which client comes next is chance, which node is not.
func (t *trio) visit(ctx context.Context, kind string, c probe.Config, n int, resume bool) (resumed int, err error) {
	var mu sync.Mutex
	sessions := make([]*probe.Session, clients)
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(4)
	for range n {
		g.Go(func() error {
			client := rand.IntN(clients)
			mu.Lock()
			offer := sessions[client]
			mu.Unlock()
			r, err := probe.Dial(ctx, t.addrs[kind][t.next.Add(1)%uint64(len(t.nodes))], c, offer)
			mu.Lock()
			defer mu.Unlock()
			if r.Resumed {
				resumed++
			}
			if resume && r.Session != nil {
				sessions[client] = r.Session
			}
			return err
		})
	}
	err = g.Wait()
	return resumed, err
}

func (t *trio) cpu() (sum float64) {
	for _, n := range t.nodes {
		sum += cpuOf(n.PID())
	}
	return sum
}
