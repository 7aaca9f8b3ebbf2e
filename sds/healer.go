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

// If Envoy refused a certificate it has still stored it. Then every later update of the ring of
// its filter chain fails. A new chain that uses the certificate makes the listener fail. So when a
// node has taken the remedy for a certificate, the ring and the listener are offered again.
//
// When a node refuses a ring, the cause may not be known. Then each of its certificates is offered
// again, alone. That shows one cause only: Envoy stops at the first chain that it cannot build.
// The chains behind it have no ring yet, and for such a chain Envoy takes any certificate. So the
// search is repeated after each cure, while the ring is refused.
//
// Source: Envoy's source/common/secret/sds_api.cc, ServerSslSocketFactory::onAddOrUpdateSecret.

// HealerConfig is what a [Healer] needs.
type HealerConfig struct {
	// Renew offers again what the streams that match chooses hold under the names that name
	// chooses, each alone and in other bytes. See [server.Server.Renew].
	Renew func(match func(xds.Node) bool, typeURL string, name func(string) bool) int
	// Refers is the type URL of resources that name secrets: listeners.
	Refers string
	// Announce informs the other replicas that a node took a remedy (cured), or that it refused a
	// ring. The node may have its certificates from one replica and its ring from another.
	// Announce must not block. The other replicas call Heard.
	Announce func(node string, cured bool)
	// Hopeless is called for a node that refuses a ring if nothing that can be sent helps it. It
	// must not block.
	Hopeless func(node string)
}

// Healer offers again what a bad certificate kept from a node. Its methods are safe for concurrent
// use.
type Healer struct {
	cfg HealerConfig

	wake     chan struct{} // capacity 1
	refusing atomic.Int64  // how many streams are in streams

	mu    sync.Mutex
	cured map[string]bool // nodes that took a remedy
	// checks holds the nodes whose ring was refused, and when the cause is searched.
	checks  map[string]time.Time
	nodes   map[string]*nodeRefusals // nodes that have refused something
	streams map[uint64]string        // their streams → node
}

// nodeRefusals is what one node has refused.
type nodeRefusals struct {
	// certs are the certificates that it refused, and for which it has not taken a remedy.
	certs map[streamName]bool
	rings map[uint64]bool // streams on which it refuses a ring
	// checked reports that its certificates were offered again since it refused the ring, and that
	// it has taken no remedy since.
	checked bool
	// nextAtOnce reports that this was done before. The next cause does not show itself, so it is
	// searched at once.
	nextAtOnce bool
	stuck      bool // a certificate has no remedy
}

// streamName is a name on a stream.
type streamName struct {
	stream uint64
	name   string
}

// checkAfter is how long the certificate that made a ring fail has to show itself.
const checkAfter = 500 * time.Millisecond

// NewHealer returns a healer. It starts nothing.
func NewHealer(c HealerConfig) *Healer {
	return &Healer{
		cfg: c, wake: make(chan struct{}, 1), cured: map[string]bool{}, checks: map[string]time.Time{},
		nodes: map[string]*nodeRefusals{}, streams: map[uint64]string{},
	}
}

// Observe takes an event of a stream. It does not block.
func (h *Healer) Observe(e xds.Event) {
	switch e.Kind {
	case xds.Refused, xds.Cured, xds.Stuck:
	case xds.Accepted, xds.Dropped, xds.Closed:
		// This is nearly always so. The ACKs of a whole fleet must not wait for one mutex.
		if h.refusing.Load() == 0 {
			return
		}
		h.mu.Lock()
		_, known := h.streams[e.Node.Stream]
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
		p = &nodeRefusals{certs: map[streamName]bool{}, rings: map[uint64]bool{}}
		h.nodes[e.Node.ID] = p
	}
	h.streams[e.Node.Stream] = e.Node.ID
	at := streamName{e.Node.Stream, e.Name}
	switch {
	case e.Kind == xds.Closed:
		maps.DeleteFunc(p.certs, func(i streamName, _ bool) bool { return i.stream == e.Node.Stream })
		delete(p.rings, e.Node.Stream)
		delete(h.streams, e.Node.Stream)
	case e.Type != TypeURL:
	case ring && e.Kind == xds.Refused:
		h.ringRefused(e.Node, p)
	case ring:
		delete(p.rings, e.Node.Stream)
		p.checked, p.nextAtOnce, p.stuck = false, false, false
	case e.Kind == xds.Refused:
		p.certs[at] = true
	case e.Kind == xds.Stuck:
		p.stuck = true
	default: // the certificate is good now, or is not wanted any more
		delete(p.certs, at)
		p.stuck = p.stuck && len(p.certs) > 0
		// There may be another bad certificate behind it, whose chain had no ring until now.
		if e.Kind == xds.Cured && p.checked {
			p.checked, p.nextAtOnce = false, true
		}
		if e.Kind == xds.Cured || len(p.rings) > 0 {
			h.cured[e.Node.ID] = true
			h.signal()
		}
		if e.Kind == xds.Cured {
			h.cfg.Announce(e.Node.ID, true)
		}
	}
	h.forget(e.Node.ID, p)
	h.refusing.Store(int64(len(h.streams)))
}

// ringRefused schedules the search for the cause. If the search was in vain before, it gives the
// node up. The caller holds mu.
func (h *Healer) ringRefused(node xds.Node, p *nodeRefusals) {
	p.rings[node.Stream] = true
	if p.stuck {
		h.cfg.Hopeless(node.ID)
		return
	}
	if !p.checked {
		h.cfg.Announce(node.ID, false)
	}
	if _, due := h.checks[node.ID]; due {
		return
	}
	at := time.Now()
	if p.checked || !p.nextAtOnce { // the cause may be about to show itself
		at = at.Add(checkAfter)
	}
	h.checks[node.ID] = at
	h.signal()
}

// Heard takes what another replica announces.
func (h *Healer) Heard(node string, cured bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if cured {
		h.cured[node] = true
		// Otherwise the search is under way.
	} else if p := h.nodes[node]; p == nil || len(p.rings) == 0 {
		h.checks[node] = time.Now().Add(checkAfter)
	}
	h.signal()
}

// forget forgets a node that refuses nothing. The caller holds mu.
func (h *Healer) forget(id string, p *nodeRefusals) {
	if len(p.certs) > 0 || len(p.rings) > 0 || p.stuck && slices.Contains(slices.Collect(maps.Values(h.streams)), id) {
		return
	}
	delete(h.nodes, id)
	delete(h.checks, id)
	maps.DeleteFunc(h.streams, func(_ uint64, node string) bool { return node == id })
}

// signal wakes Run.
func (h *Healer) signal() {
	select {
	case h.wake <- struct{}{}:
	default:
	}
}

// Run offers what is due, until ctx ends.
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

// round offers what is due for all nodes, and returns when something will be due. Zero means that
// nothing will be due by itself.
func (h *Healer) round(now time.Time) (next time.Time) {
	h.mu.Lock()
	cured := h.cured
	h.cured = map[string]bool{}
	var check []string
	for id, at := range h.checks {
		if at.After(now) {
			if next.IsZero() || at.Before(next) {
				next = at
			}
			continue
		}
		delete(h.checks, id)
		switch p := h.nodes[id]; {
		case p == nil:
			check = append(check, id)
		case len(p.certs) > 0: // the cause is known
		case !p.checked:
			check = append(check, id)
		case len(p.rings) > 0:
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
	for _, id := range check {
		n := h.cfg.Renew(func(n xds.Node) bool { return n.ID == id }, TypeURL,
			func(name string) bool { return !isRing(name) })
		h.mu.Lock()
		// If there is no certificate here, another replica has them.
		if p := h.nodes[id]; p != nil && n > 0 {
			p.checked = true
		}
		h.mu.Unlock()
	}
	return next
}
