package e2e

import (
	"context"
	"crypto/tls"
	"fmt"
	"sync"
	"time"

	"github.com/lockstep-tls/lockstep/test/traffic"
)

// account is traffic over the Envoys of a stage, and what is demanded of it.
type account struct {
	*traffic.Traffic
	s    *stage
	up   int            // nodes that are expected to serve
	seen map[uint16]int // handshakes at the last check
	halt context.CancelFunc
	busy sync.WaitGroup
}

// clients starts traffic over these Envoys; none named: all. It ends with the test, or with stop.
func (s *stage) clients(envoys ...*envoy) *account {
	s.t.Helper()
	if len(envoys) == 0 {
		envoys = s.envoys
	}
	addrs := map[string]string{}
	for _, e := range envoys {
		addrs[e.name] = e.addr
	}
	ctx, cancel := context.WithCancel(s.ctx)
	a := &account{s: s, up: len(envoys), seen: map[uint16]int{}, halt: cancel, Traffic: traffic.New(traffic.Config{
		Nodes: addrs, Hosts: s.hosts, Roots: s.ca.Pool(), Lifetime: lifetime,
		Workers: 1, Hops: 40, Pause: 5 * time.Millisecond,
	})}
	a.busy.Go(func() { a.Run(ctx) })
	s.t.Cleanup(a.stop)
	a.awaitKeyInUse()
	return a
}

func (a *account) stop() {
	a.halt()
	a.busy.Wait()
}

// check demands the whole invariant of all traffic so far, and that there was some since the last
// check.
func (a *account) check(after string) {
	a.s.t.Helper()
	a.s.eventually(func() error {
		counts, _ := a.Counts()
		for v := range traffic.Kinds {
			if counts[v].Handshakes <= a.seen[v] {
				return errNotYet
			}
		}
		return nil
	})
	counts, words := a.Counts()
	for v, kind := range traffic.Kinds {
		c := counts[v]
		a.seen[v] = c.Handshakes
		if c.Refused > 0 || c.Failed > 0 {
			a.s.t.Fatalf("after %s, %s: %d live tickets were refused, %d handshakes failed on nodes that were up: %q",
				after, kind, c.Refused, c.Failed, words)
		}
	}
}

// cross demands that the tickets of every key of the ring, made at any node, resume at every other
// node that is up.
func (a *account) cross(after string) {
	a.s.t.Helper()
	offered, bad := a.Cross(a.s.ctx, a.s.scope().ids())
	if want := len(traffic.Kinds) * a.up * (a.up - 1); len(bad) > 0 || offered < want {
		_, words := a.Counts()
		a.s.t.Fatalf("after %s: %d tickets were offered at other nodes, want %d or more; these were refused: %v; %q",
			after, offered, want, bad, words)
	}
	a.check(after)
}

// awaitKeyInUse waits until every node that is up was seen to make tickets with the key that
// encrypts, for both kinds.
func (a *account) awaitKeyInUse() {
	a.s.t.Helper()
	key := a.s.scope().key("encrypt")
	a.s.eventually(func() error {
		makers := a.Makers(key)
		for _, v := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			if len(makers[v]) < a.up {
				_, words := a.Counts()
				return fmt.Errorf("%s: tickets of key %s were seen from %v only; %q",
					traffic.Kinds[v], key, makers[v], words)
			}
		}
		return nil
	})
}

// downs says that an Envoy is about to be killed, ups that it serves again.
func (a *account) downs(e *envoy) { a.up--; a.Down(e.name) }
func (a *account) ups(e *envoy)   { a.up++; a.Up(e.name) }
