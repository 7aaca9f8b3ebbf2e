package sds

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/xds"
)

// A certificate that Envoy refused, and stored, spoils every later update of the ring that its filter
// chain uses; a new chain that finds it spoils the listener. So when a node has taken the remedy for a
// certificate, the ring and the listener are offered again. When a node refuses a ring, and none of its
// certificates is known for the culprit, each of them is offered again, alone.
//
// Source: Envoy's source/common/secret/sds_api.cc, ServerSslSocketFactory::onAddOrUpdateSecret.

// HealerConfig is what a [Healer] needs.
type HealerConfig struct {
	// Renew offers again what the streams that match chooses hold under the names that name chooses, each alone and
	// in other bytes; see [server.Server.Renew].
	Renew func(match func(xds.Node) bool, typeURL string, name func(string) bool) int
	// Refers is the type URL of what names secrets: listeners.
	Refers string
	// Hopeless is told that a node refuses a ring, and that nothing which can be sent helps it. It must not block.
	Hopeless func(node string)
}

// Healer offers again what a bad certificate kept from a node. Its methods are safe for concurrent use.
type Healer struct {
	cfg HealerConfig

	wake chan struct{} // capacity 1

	mu     sync.Mutex
	cured  map[string]bool      // nodes that took a remedy
	probe  map[string]time.Time // nodes whose ring was refused, and when that is looked into
	nodes  map[string]*patient  // nodes that have refused something
	stream map[uint64]string    // their streams
}

// patient is a node that has refused something.
type patient struct {
	ill     map[illness]bool // certificates that it refused, and for which it has not taken a remedy
	refuses map[uint64]bool  // streams on which it refuses a ring
	probed  bool             // its certificates were offered again since it refused the ring
	stuck   bool             // a certificate has no remedy
}

// illness is a name on a stream.
type illness struct {
	stream uint64
	name   string
}

// probeAfter is how long the culprit of a refused ring has to show itself.
const probeAfter = 500 * time.Millisecond

// NewHealer starts nothing.
func NewHealer(c HealerConfig) *Healer {
	return &Healer{
		cfg: c, wake: make(chan struct{}, 1), cured: map[string]bool{}, probe: map[string]time.Time{}, nodes: map[string]*patient{}, stream: map[uint64]string{},
	}
}

// Observe takes what happened on a stream. It does not block.
func (h *Healer) Observe(e xds.Event) {
	switch e.Kind {
	case xds.Refused, xds.Cured, xds.Stuck:
	case xds.Accepted, xds.Dropped, xds.Closed:
		h.mu.Lock()
		_, known := h.stream[e.Node.Stream]
		h.mu.Unlock()
		if !known {
			return
		}
	default:
		return
	}
	_, ring := keysource.RingScope(e.Name)
	ring = ring && e.Node.Service == xds.SDS
	h.mu.Lock()
	defer h.mu.Unlock()
	p := h.nodes[e.Node.ID]
	if p == nil {
		p = &patient{ill: map[illness]bool{}, refuses: map[uint64]bool{}}
		h.nodes[e.Node.ID] = p
	}
	h.stream[e.Node.Stream] = e.Node.ID
	at := illness{e.Node.Stream, e.Name}
	switch {
	case e.Kind == xds.Closed:
		maps.DeleteFunc(p.ill, func(i illness, _ bool) bool { return i.stream == e.Node.Stream })
		delete(p.refuses, e.Node.Stream)
		delete(h.stream, e.Node.Stream)
	case e.Type != TypeURL:
	case ring && e.Kind == xds.Refused:
		h.ringRefused(e.Node, p)
	case ring:
		delete(p.refuses, e.Node.Stream)
		p.probed, p.stuck = false, false
	case e.Kind == xds.Refused:
		p.ill[at] = true
	case e.Kind == xds.Stuck:
		p.stuck = true
	default: // a certificate is well again
		delete(p.ill, at)
		if e.Kind == xds.Cured || len(p.refuses) > 0 {
			h.cured[e.Node.ID] = true
			h.poke()
		}
	}
	h.forget(e.Node.ID, p)
}

// ringRefused: the caller holds mu.
func (h *Healer) ringRefused(node xds.Node, p *patient) {
	p.refuses[node.Stream] = true
	switch {
	case p.stuck || p.probed && len(p.ill) == 0:
		h.cfg.Hopeless(node.ID)
	case !p.probed:
		h.probe[node.ID] = time.Now().Add(probeAfter)
		h.poke()
	}
}

// forget drops a node that is well. The caller holds mu.
func (h *Healer) forget(id string, p *patient) {
	if len(p.ill) > 0 || len(p.refuses) > 0 || p.stuck && slices.Contains(slices.Collect(maps.Values(h.stream)), id) {
		return
	}
	delete(h.nodes, id)
	delete(h.probe, id)
	maps.DeleteFunc(h.stream, func(_ uint64, node string) bool { return node == id })
}

func (h *Healer) poke() {
	select {
	case h.wake <- struct{}{}:
	default:
	}
}

// Run offers what is due until ctx ends.
func (h *Healer) Run(ctx context.Context) error {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-h.wake:
		case <-timer.C:
		}
		if next := h.round(time.Now()); !next.IsZero() {
			timer.Reset(time.Until(next))
		}
	}
}

// round offers what is due for all nodes at once, and returns when something will be; zero: not by itself.
func (h *Healer) round(now time.Time) (next time.Time) {
	h.mu.Lock()
	cured := h.cured
	h.cured = map[string]bool{}
	probe := map[string]bool{}
	for id, at := range h.probe {
		p := h.nodes[id]
		switch {
		case at.After(now):
			if next.IsZero() || at.Before(next) {
				next = at
			}
			continue
		case p != nil && len(p.refuses) > 0 && len(p.ill) == 0 && !p.probed:
			p.probed = true
			probe[id] = true
		}
		delete(h.probe, id)
	}
	h.mu.Unlock()
	anyName := func(string) bool { return true }
	isRing := func(name string) bool { _, ring := keysource.RingScope(name); return ring }
	if len(cured) > 0 {
		of := func(n xds.Node) bool { return cured[n.ID] }
		h.cfg.Renew(func(n xds.Node) bool { return of(n) && n.Service == xds.SDS }, TypeURL, isRing)
		h.cfg.Renew(of, h.cfg.Refers, anyName)
	}
	if len(probe) > 0 {
		h.cfg.Renew(func(n xds.Node) bool { return probe[n.ID] }, TypeURL, func(name string) bool { return !isRing(name) })
	}
	return next
}
