package sds

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lockstep-tls/lockstep/xds"
)

// clinic is a Healer, and what it did.
type clinic struct {
	*Healer
	nodes []xds.Node

	mu   sync.Mutex
	did  []string
	said []string // to the other replicas
}

const listeners = "type.googleapis.com/envoy.config.listener.v3.Listener"

func newClinic(t *testing.T, nodes ...xds.Node) *clinic {
	c := &clinic{nodes: nodes}
	c.Healer = NewHealer(HealerConfig{
		Refers:   listeners,
		Hopeless: func(node string) { c.note("hopeless " + node) },
		Announce: func(node string, cured bool) {
			c.said = append(c.said, map[bool]string{true: "cured ", false: "ring refused "}[cured]+node)
		},
		Renew: func(match func(xds.Node) bool, typeURL string, name func(string) bool) (n int) {
			for _, node := range c.nodes {
				if !match(node) {
					continue
				}
				what := "listener"
				if typeURL == TypeURL {
					what = ""
					for _, asked := range map[xds.Service][]string{xds.SDS: {"tickets/default"},
						xds.ADS: {"a.example", "b.example"}}[node.Service] {
						if name(asked) {
							what += " " + asked
							n++
						}
					}
					if what == "" {
						continue
					}
				}
				c.note(fmt.Sprintf("%s/%s: %s", node.ID, node.Service, strings.TrimSpace(what)))
			}
			return n
		},
	})
	done := make(chan error)
	go func() { done <- c.Run(t.Context()) }()
	t.Cleanup(func() { <-done })
	return c
}

func (c *clinic) note(what string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.did = append(c.did, what)
}

// took returns what was done by now.
func (c *clinic) took(after time.Duration) string {
	time.Sleep(after)
	synctest.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	slices.Sort(c.did)
	did := strings.Join(c.did, ", ")
	c.did = nil
	return did
}

func (c *clinic) happens(kind xds.Kind, n xds.Node, name string) {
	typeURL := TypeURL
	if kind == xds.Closed {
		typeURL = ""
	}
	c.Observe(xds.Event{Kind: kind, Node: n, Type: typeURL, Name: name, Version: "1", Words: "no"})
}

func (c *clinic) refusesRing(n xds.Node) { c.happens(xds.Refused, n, "tickets/default") }
func (c *clinic) acceptsRing(n xds.Node) { c.happens(xds.Accepted, n, "tickets/default") }

// isCured has n refuse a certificate, and take the remedy for it.
func (c *clinic) isCured(n xds.Node, name string) {
	c.happens(xds.Refused, n, name)
	c.happens(xds.Cured, n, name)
}

// searchesCause has n refuse its ring, and sees each certificate of node a offered again.
func (c *clinic) searchesCause(t *testing.T, n xds.Node) {
	t.Helper()
	c.refusesRing(n)
	c.want(t, "each certificate is offered again", checkAfter, "a/ads: a.example b.example")
}

func TestWhatABadCertificateKeptFromANodeIsOfferedAgain(t *testing.T) {
	a := []xds.Node{{ID: "a", Stream: 1, Service: xds.ADS}, {ID: "a", Stream: 2, Service: xds.SDS}}
	b := []xds.Node{{ID: "b", Stream: 3, Service: xds.ADS}, {ID: "b", Stream: 4, Service: xds.SDS}}
	const renewed = "a/ads: listener, a/sds: listener, a/sds: tickets/default"
	for name, play := range map[string]func(*testing.T, *clinic){
		"a certificate is cured": func(t *testing.T, c *clinic) {
			c.happens(xds.Refused, a[0], "a.example")
			c.want(t, "refused", time.Hour, "")
			c.happens(xds.Cured, a[0], "a.example")
			c.want(t, "cured", 0, renewed)
			c.acceptsRing(a[1])
			c.want(t, "that is all", time.Hour, "")
		},
		"the ring is refused, and the culprit shows itself": func(t *testing.T, c *clinic) {
			c.refusesRing(a[1])
			c.isCured(a[0], "a.example")
			c.want(t, "cured", 0, renewed)
			c.acceptsRing(a[1])
			c.want(t, "nothing is looked for", time.Hour, "")
		},
		"the ring is refused, and the culprit is not known": func(t *testing.T, c *clinic) {
			c.refusesRing(a[1])
			c.want(t, "not at once", checkAfter-1, "")
			c.want(t, "each certificate is offered again", 1, "a/ads: a.example b.example")
			c.happens(xds.Accepted, a[0], "a.example")
			c.isCured(a[0], "b.example")
			c.acceptsRing(a[1])
			c.want(t, "cured", 0, renewed)
			c.refusesRing(a[1])
			c.want(t, "another time", checkAfter, "a/ads: a.example b.example")
		},
		// Envoy takes any certificate for the chains behind the one at which it stopped: they have
		// no ring yet.
		"there are two culprits, one behind the other": func(t *testing.T, c *clinic) {
			c.searchesCause(t, a[1])
			c.refusesRing(a[1])
			c.want(t, "another try of the ring, before the culprit has answered", checkAfter/2, "")
			c.happens(xds.Refused, a[0], "a.example")
			c.happens(xds.Accepted, a[0], "b.example")
			c.want(t, "one is known", checkAfter, renewed)
			c.happens(xds.Cured, a[0], "a.example")
			c.want(t, "cured", 0, renewed)
			c.refusesRing(a[1])
			c.want(t, "the next is looked for at once", 0, "a/ads: a.example b.example")
			c.isCured(a[0], "b.example")
			c.want(t, "cured", 0, renewed)
			c.acceptsRing(a[1])
			c.want(t, "that is all", time.Hour, "")
		},
		"no certificate is the culprit": func(t *testing.T, c *clinic) {
			c.searchesCause(t, a[1])
			c.happens(xds.Accepted, a[0], "a.example")
			c.happens(xds.Accepted, a[0], "b.example")
			c.took(0)
			c.refusesRing(a[1])
			c.want(t, "it is refused again", time.Hour, "hopeless a")
		},
		"a certificate has no remedy": func(t *testing.T, c *clinic) {
			c.happens(xds.Refused, a[0], "a.example")
			c.happens(xds.Stuck, a[0], "a.example")
			c.refusesRing(a[1])
			c.want(t, "refused", 0, "hopeless a")
		},
		"the certificates come from another replica": func(t *testing.T, c *clinic) {
			c.nodes = a[1:]
			c.refusesRing(a[1])
			c.want(t, "nothing is here", time.Minute, "")
			c.refusesRing(a[1])
			c.want(t, "it is not hopeless", time.Minute, "")
			c.Heard("a", true)
			c.want(t, "that one cured it", 0, "a/sds: listener, a/sds: tickets/default")
			if got := strings.Join(c.said, ", "); got != "ring refused a, ring refused a" {
				t.Errorf("told the others: %s", got)
			}
		},
		"the ring comes from another replica": func(t *testing.T, c *clinic) {
			c.nodes = a[:1]
			c.Heard("a", false)
			c.want(t, "that one says that it is refused", checkAfter, "a/ads: a.example b.example")
			c.isCured(a[0], "b.example")
			c.took(0)
			if got := strings.Join(c.said, ", "); got != "cured a" {
				t.Errorf("told the others: %s", got)
			}
		},
		"streams end, and nothing is kept": func(t *testing.T, c *clinic) {
			c.refusesRing(a[1])
			c.happens(xds.Refused, a[0], "a.example")
			c.happens(xds.Refused, b[0], "a.example")
			c.happens(xds.Closed, a[0], "")
			c.happens(xds.Closed, a[1], "")
			c.happens(xds.Closed, b[0], "")
			c.want(t, "nobody is here", time.Hour, "")
			if len(c.Healer.nodes)+len(c.streams)+len(c.checks) != 0 {
				t.Errorf("left: %v %v %v", c.Healer.nodes, c.streams, c.checks)
			}
		},
		"who is well costs nothing": func(t *testing.T, c *clinic) {
			for _, kind := range []xds.Kind{xds.Asked, xds.Sent, xds.Accepted, xds.Dropped, xds.Closed} {
				c.happens(kind, a[0], "a.example")
			}
			if len(c.Healer.nodes)+len(c.streams) != 0 {
				t.Errorf("left: %v %v", c.Healer.nodes, c.streams)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { play(t, newClinic(t, slices.Concat(a, b)...)) })
		})
	}
}

func (c *clinic) want(t *testing.T, what string, after time.Duration, want string) {
	t.Helper()
	if got := c.took(after); got != want {
		t.Errorf("%s: %q, want %q", what, got, want)
	}
}
