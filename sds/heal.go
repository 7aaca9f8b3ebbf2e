package sds

import (
	"context"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/xds"
)

// A certificate that Envoy refused, and stored, spoils every later update of the ring that its filter
// chain uses; a new chain that finds it spoils the listener. So when a node has taken the remedy for a
// certificate, the ring and the listener are offered again. When a node refuses a ring, and none of its
// certificates is known for the culprit, each of them is offered again, alone. That shows one culprit: Envoy
// stops at the first chain that it cannot build, so the chains behind have no ring yet, and Envoy takes any
// certificate for such a chain. So it is done again after each cure, while the ring is refused.
//
// Source: Envoy's source/common/secret/sds_api.cc, ServerSslSocketFactory::onAddOrUpdateSecret.

// HealerConfig is what a [Healer] needs.
type HealerConfig struct {
	// Renew offers again what the streams that match chooses hold under the names that name chooses, each alone and
	// in other bytes; see [server.Server.Renew].
	Renew func(match func(xds.Node) bool, typeURL string, name func(string) bool) int
	// Refers is the type URL of what names secrets: listeners.
	Refers string
	// Tell tells the other replicas that a node took a remedy, or else that it refused a ring: the node may have its
	// certificates from one replica and its ring from another. It must not block. They call Heard.
	Tell func(node string, cured bool)
	// Hopeless is told that a node refuses a ring, and that nothing which can be sent helps it. It must not block.
	Hopeless func(node string)
}

// Healer offers again what a bad certificate kept from a node. Its methods are safe for concurrent use.
type Healer struct {
	cfg HealerConfig

	wake     chan struct{} // capacity 1
	patients atomic.Int64  // streams in stream

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
	probed  bool             // its certificates were offered again since it refused the ring, and no remedy was taken since
	soon    bool             // they were before: the next culprit does not show itself, and is looked for at once
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
		if h.patients.Load() == 0 { // nearly always: an ACK of a whole fleet must not wait for one mutex
			return
		}
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
		p.probed, p.soon, p.stuck = false, false, false
	case e.Kind == xds.Refused:
		p.ill[at] = true
	case e.Kind == xds.Stuck:
		p.stuck = true
	default: // a certificate is well again
		delete(p.ill, at)
		p.stuck = p.stuck && len(p.ill) > 0
		if e.Kind == xds.Cured && p.probed { // there may be another behind it: until then its chain had no ring
			p.probed, p.soon = false, true
		}
		if e.Kind == xds.Cured || len(p.refuses) > 0 {
			h.cured[e.Node.ID] = true
			h.poke()
		}
		if e.Kind == xds.Cured {
			h.cfg.Tell(e.Node.ID, true)
		}
	}
	h.forget(e.Node.ID, p)
	h.patients.Store(int64(len(h.stream)))
}

// ringRefused sees to it that the culprit is looked for, or that the node is given up if it was looked for in
// vain. The caller holds mu.
func (h *Healer) ringRefused(node xds.Node, p *patient) {
	p.refuses[node.Stream] = true
	if p.stuck {
		h.cfg.Hopeless(node.ID)
		return
	}
	if !p.probed {
		h.cfg.Tell(node.ID, false)
	}
	if _, due := h.probe[node.ID]; due {
		return
	}
	at := time.Now()
	if p.probed || !p.soon { // a culprit may be about to show itself
		at = at.Add(probeAfter)
	}
	h.probe[node.ID] = at
	h.poke()
}

// Heard takes what another replica tells.
func (h *Healer) Heard(node string, cured bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if cured {
		h.cured[node] = true
	} else if p := h.nodes[node]; p == nil || len(p.refuses) == 0 { // else it is looked into already
		h.probe[node] = time.Now().Add(probeAfter)
	}
	h.poke()
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
	var probe []string
	for id, at := range h.probe {
		if at.After(now) {
			if next.IsZero() || at.Before(next) {
				next = at
			}
			continue
		}
		delete(h.probe, id)
		switch p := h.nodes[id]; {
		case p == nil:
			probe = append(probe, id)
		case len(p.ill) > 0: // the culprit is known
		case !p.probed:
			probe = append(probe, id)
		case len(p.refuses) > 0:
			h.cfg.Hopeless(id)
		}
	}
	h.mu.Unlock()
	anyName := func(string) bool { return true }
	isRing := func(name string) bool { _, ring := keysource.RingScope(name); return ring }
	if len(cured) > 0 {
		of := func(n xds.Node) bool { return cured[n.ID] }
		h.cfg.Renew(func(n xds.Node) bool { return of(n) && n.Service == xds.SDS }, TypeURL, isRing)
		h.cfg.Renew(of, h.cfg.Refers, anyName)
	}
	for _, id := range probe {
		n := h.cfg.Renew(func(n xds.Node) bool { return n.ID == id }, TypeURL, func(name string) bool { return !isRing(name) })
		h.mu.Lock()
		if p := h.nodes[id]; p != nil && n > 0 { // where there is none, another replica has its certificates
			p.probed = true
		}
		h.mu.Unlock()
	}
	return next
}
