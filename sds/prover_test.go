package sds

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/xds"
	"github.com/lockstep-tls/lockstep/xds/server"
)

// court is a prover over streams that a test makes up.
type court struct {
	*Prover
	mu      sync.Mutex
	views   []server.StreamView
	ring    *keysource.Ring
	trials  []ProofTarget
	verdict ProofResult
	during  func()
}

const listenerType = "type.googleapis.com/test.Listener"

func newCourt(t *testing.T) (*court, func()) {
	c := &court{ring: ring(2), verdict: ProofResult{Proved: true, Words: "seen"}}
	c.Prover = NewProver(ProverConfig{
		Streams: func(_ context.Context, q server.Query) (out []server.StreamView) {
			for _, v := range c.views {
				if q.Node == "" || q.Node == v.Node.ID {
					var names []server.NameView
					for _, n := range v.Names {
						if (q.Names == nil || slices.Contains(q.Names, n.Name)) &&
							(q.Keep == nil || q.Keep(n.Name, n.NameState)) {
							names = append(names, n)
						}
					}
					v.Names = names
					out = append(out, v)
				}
			}
			return out
		},
		Ring:   func(string) *keysource.Ring { return c.ring },
		Refers: listenerType,
		Listener: func(version string) (uint16, []keysource.Name) {
			return 9443, []keysource.Name{"blog.example", "shop.example"}
		},
		Handshakes: func(_ context.Context, trial ProofTarget) ProofResult {
			c.mu.Lock()
			c.trials = append(c.trials, trial)
			verdict := c.verdict
			c.mu.Unlock()
			if c.during != nil {
				c.during()
			}
			return verdict
		},
		Log: slog.New(slog.DiscardHandler),
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- c.Run(ctx) }()
	return c, func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// streams are those of a node with a ring and certificates.
func (c *court) streams(n xds.Node, certs ...string) {
	r := n
	r.Service, r.Kind = xds.SDS, xds.KindRing
	v := c.ring.Version()
	has := func(typeURL, name, version string) server.NameView {
		return server.NameView{Type: typeURL, Name: name,
			NameState: server.NameState{Known: xds.Present, Current: version, Sent: version, Accepted: version}}
	}
	a := n
	a.Service, a.Stream = xds.ADS, n.Stream+100
	view := server.StreamView{Node: a}
	for _, name := range certs {
		typeURL := TypeURL
		if name == "tls" {
			typeURL = listenerType
		}
		view.Names = append(view.Names, has(typeURL, name, "1"))
	}
	c.views = append(c.views, server.StreamView{Node: r, Names: []server.NameView{has(TypeURL, "tickets/default", v)}},
		view)
}

func (c *court) said(kind xds.Kind, n xds.Node, name, version string) {
	n.Service = xds.ADS
	if _, ring := keysource.RingScope(name); ring {
		n.Service = xds.SDS
	}
	c.Observe(xds.Event{Node: n, Type: TypeURL, Name: name, Version: version, Kind: kind})
}

func (c *court) hosts(i int) (out []string) {
	for _, h := range c.trials[i].Hosts {
		out = append(out, strings.Join(append([]string{h.Name}, h.Others...), " "))
	}
	return out
}

func at(id, remote string, stream uint64) xds.Node {
	return xds.Node{ID: id, Remote: remote, Stream: stream, Agent: "envoy"}
}

// eagerNode adds a node with one host.
func (c *court) eagerNode() xds.Node {
	n := at("n1", "192.0.2.1:5000", 1)
	n.Port, n.Eager = 8443, true
	c.streams(n, "shop.example")
	return n
}

func TestANodeIsTriedOnceAfterACureAndWithAllItsHosts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, stop := newCourt(t)
		defer stop()
		n, other := at("n1", "192.0.2.1:5000", 1), at("n2", "[::ffff:192.0.2.2]:5000", 2)
		n.Port, n.Eager = 8443, true
		c.streams(n, "shop.example", "blog.example")
		c.streams(other, "chain:shop.example", "chain:strangers.example", "ondemand.example", "tls")
		v := c.ring.Version()
		settle := func() { synctest.Wait(); <-time.After(2 * quietFor); synctest.Wait() }

		c.said(xds.Accepted, n, "tickets/default", v)
		settle()
		if len(c.trials) != 0 {
			t.Fatalf("nothing was in doubt: %+v", c.trials)
		}
		c.said(xds.Cured, n, "shop.example", "1")
		settle()
		if len(c.trials) != 0 {
			t.Fatal("before the ring was accepted again")
		}
		for range 3 {
			c.said(xds.Accepted, n, "tickets/default", v)
			settle()
		}
		if len(c.trials) != 1 || c.trials[0].Addr != "192.0.2.1:8443" ||
			!slices.Equal(c.trials[0].Keys, []string{c.ring.Keys[0].ID()}) {
			t.Fatalf("%+v", c.trials)
		}
		if got := c.hosts(0); !slices.Equal(got, []string{"blog.example", "shop.example 192.0.2.2:9443"}) {
			t.Errorf("%q", got)
		}
		e, ok := c.Evidence("n1")
		if !ok || !e.Proved || !e.Holds("tickets/default", v) || e.Holds("tickets/default", "g9-0") {
			t.Errorf("%+v", e)
		}
		// In hybrid mode the chains are those of the listener: a client can make a node ask for
		// others.
		c.said(xds.Refused, other, "tickets/default", v)
		c.said(xds.Accepted, other, "tickets/default", v)
		settle()
		if got := c.hosts(1); c.trials[1].Addr != "192.0.2.2:9443" ||
			!slices.Equal(got, []string{"shop.example 192.0.2.1:8443"}) {
			t.Errorf("%+v", c.trials[1])
		}
		c.Observe(xds.Event{Node: n, Kind: xds.Closed})
		if _, ok := c.Evidence("n1"); ok {
			t.Error("evidence of a node that has gone is kept")
		}
	})
}

func TestWhatCannotBeTriedSaysWhy(t *testing.T) {
	for remote, port := range map[string]uint16{"@": 8443, "": 8443, "/run/x.sock": 8443, "192.0.2.1:5000": 0} {
		synctest.Test(t, func(t *testing.T) {
			c, stop := newCourt(t)
			defer stop()
			n := at("n1", remote, 1)
			n.Port, n.Eager = port, true
			c.streams(n, "shop.example")
			c.said(xds.Refused, n, "tickets/default", c.ring.Version())
			c.said(xds.Accepted, n, "tickets/default", c.ring.Version())
			<-time.After(2 * quietFor)
			synctest.Wait()
			if e, ok := c.Evidence("n1"); len(c.trials) != 0 || !ok || e.Proved || e.Doubt ||
				!strings.Contains(e.Words, "not provable") {
				t.Errorf("%q: %+v, %d trials", remote, e, len(c.trials))
			}
		})
	}
}

func TestARotationDuringATrialHasItMadeAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, stop := newCourt(t)
		defer stop()
		n := c.eagerNode()
		c.verdict = ProofResult{Doubt: true, Words: "another key"}
		c.during = func() { c.ring = ring(3) }
		c.said(xds.Cured, n, "shop.example", "1")
		c.said(xds.Accepted, n, "tickets/default", c.ring.Version())
		<-time.After(2 * quietFor)
		synctest.Wait()
		if e, ok := c.Evidence("n1"); ok {
			t.Fatalf("the verdict may be of either ring: %+v", e)
		}
		c.during, c.views = nil, nil
		c.streams(n, "shop.example")
		c.said(xds.Accepted, n, "tickets/default", c.ring.Version())
		<-time.After(2 * quietFor)
		synctest.Wait()
		if d := c.All(); len(d) != 1 || d[0].Node != "n1" || !d[0].Doubt || len(c.trials) != 2 {
			t.Fatalf("%+v", d)
		}
		// It is tried again with each ring that it accepts, until it is proved.
		c.ring, c.views, c.verdict = ring(4), nil, ProofResult{Proved: true}
		c.streams(n, "shop.example")
		c.said(xds.Accepted, n, "tickets/default", c.ring.Version())
		<-time.After(2 * quietFor)
		synctest.Wait()
		if e, _ := c.Evidence("n1"); !e.Proved || len(c.All()) != 1 {
			t.Errorf("%+v", e)
		}
	})
}

// What a proof shows of a node that leaves meanwhile is of nobody.
func TestANodeThatLeavesDuringItsProofLeavesNothing(t *testing.T) {
	for what, still := range map[string]bool{"its streams are gone": false, "they are about to go": true} {
		synctest.Test(t, func(t *testing.T) {
			c, stop := newCourt(t)
			defer stop()
			n := c.eagerNode()
			c.verdict = ProofResult{Doubt: true, Words: "another key"}
			c.during = func() {
				c.Observe(xds.Event{Node: n, Kind: xds.Closed})
				if !still {
					c.views = nil
				}
			}
			c.said(xds.Refused, n, "tickets/default", c.ring.Version())
			c.said(xds.Accepted, n, "tickets/default", c.ring.Version())
			<-time.After(2 * quietFor)
			synctest.Wait()
			c.Prover.mu.Lock()
			defer c.Prover.mu.Unlock()
			if len(c.trials) != 1 || len(c.evidence)+len(c.refused)+len(c.proving)+len(c.due) > 0 {
				t.Errorf("%s: %d trials, %v, %v, %v, %v", what, len(c.trials), c.evidence, c.refused, c.proving, c.due)
			}
		})
	}
}

func TestTheEdgeIsNeverInDoubt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, stop := newCourt(t)
		defer stop()
		n := at("n1", "192.0.2.1:5000", 1)
		n.Agent = xds.EdgeAgent
		c.streams(n, "shop.example")
		c.said(xds.Refused, n, "tickets/default", c.ring.Version())
		c.said(xds.Accepted, n, "tickets/default", c.ring.Version())
		<-time.After(2 * quietFor)
		synctest.Wait()
		if _, ok := c.Evidence("n1"); ok {
			t.Error("it was tried")
		}
	})
}

// A verdict may be of a process that is about to end: a node that is in doubt is tried again, ever
// more seldom, until it is proved.
func TestANodeThatIsLeftInDoubtIsTriedAgain(t *testing.T) {
	for _, verdict := range []ProofResult{{Doubt: true, Words: "another key"}, {Words: "not reached"}} {
		testTriedAgain(t, verdict)
	}
}

func testTriedAgain(t *testing.T, verdict ProofResult) {
	synctest.Test(t, func(t *testing.T) {
		c, stop := newCourt(t)
		defer stop()
		n := c.eagerNode()
		c.verdict = verdict
		c.said(xds.Refused, n, "tickets/default", c.ring.Version())
		c.said(xds.Accepted, n, "tickets/default", c.ring.Version())
		tried := func(after time.Duration) int {
			time.Sleep(after)
			synctest.Wait()
			c.mu.Lock()
			defer c.mu.Unlock()
			return len(c.trials)
		}
		for i, wait := range []time.Duration{quietFor, proveRetry + quietFor, 2*proveRetry + quietFor} {
			if got := tried(wait); got != i+1 {
				t.Fatalf("tried %d times, want %d", got, i+1)
			}
		}
		c.mu.Lock()
		c.verdict = ProofResult{Proved: true, Words: "seen"}
		c.mu.Unlock()
		tried(4*proveRetry + quietFor)
		if e, ok := c.Evidence("n1"); !ok || !e.Proved {
			t.Errorf("%+v", e)
		}
		if got := tried(time.Hour); got != 4 {
			t.Errorf("a node that is proved was tried again: %d times in all", got)
		}
	})
}
