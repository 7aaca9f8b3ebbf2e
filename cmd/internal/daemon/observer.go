package daemon

import (
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/lockstep-tls/lockstep/cmd/internal/listeners"
	"github.com/lockstep-tls/lockstep/cmd/internal/metrics"
	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/lds"
	"github.com/lockstep-tls/lockstep/rotation/fleet"
	"github.com/lockstep-tls/lockstep/sds"
	"github.com/lockstep-tls/lockstep/xds"
)

// observer passes what happens on streams on to the rosters, and counts it.
type observer struct {
	rolls     *fleet.Coordinator
	listeners *listeners.Listeners // listeners is nil if none is served.
	healer    *sds.Healer
	table     *sds.Table
	prover    *sds.Prover
	durations *metrics.Durations
	log       *slog.Logger
	kinds     [xds.Kinds]atomic.Uint64 // kinds counts events by xds.Kind.

	mu      sync.Mutex
	skipped map[string]int // skipped counts the laggards left behind, by scope.
}

// observe is called by the goroutines of the streams.
func (o *observer) observe(e xds.Event) {
	o.kinds[e.Kind].Add(1)
	o.healer.Observe(e)
	o.table.Observe(e)
	o.prover.Observe(e)
	o.durations.Observe(e)
	if e.Kind == xds.Closed {
		o.rolls.Closed(e.Node.Stream)
		o.listeners.Observe(e)
		return
	}
	if e.Type == lds.TypeURL {
		if o.listeners.Observe(e); e.Kind == xds.Refused {
			o.log.Error("a node refused the listener; it goes on with the last one that it took",
				"node", e.Node.ID, "version", e.Version, "words", e.Words)
		}
		return
	}
	scope, ring := keysource.RingScope(e.Name)
	if !ring || e.Node.Service != xds.SDS {
		switch e.Kind {
		case xds.Refused:
			o.log.Warn("a node refused a secret", "node", e.Node.ID,
				"name", e.Name, "version", e.Version, "words", e.Words)
		case xds.Cured:
			o.log.Warn("a node took something else in the place of a certificate that it had refused",
				"node", e.Node.ID, "name", e.Name, "version", e.Version)
		case xds.Stuck:
			o.log.Error("a node refuses a certificate and whatever is sent in its place: restart this Envoy",
				"node", e.Node.ID, "name", e.Name, "version", e.Version, "words", e.Words)
		}
		return
	}
	if e.Kind == xds.Asked && !o.rolls.Has(scope) {
		o.log.Warn("a node asks for the ring of a scope that is not configured, and gets no answer",
			"node", e.Node.ID, "scope", scope, "configured", o.rolls.Scopes())
	}
	o.ring(e, scope)
}

// ring passes on what happened to a ring on a stream of the SDS service.
func (o *observer) ring(e xds.Event, scope string) {
	switch n := e.Node; e.Kind {
	case xds.Asked:
		o.rolls.Join(scope, fleet.Asked{
			Stream: n.Stream, Conn: n.Conn, Node: n.ID, Identity: n.Identity,
			Held: e.Version, Believed: e.Believed, Ring: n.Kind == xds.KindRing,
		})
	case xds.Accepted:
		o.rolls.Accepted(n.Stream, scope, e.Version)
	case xds.Refused:
		o.rolls.Refused(n.Stream, scope, e.Version, e.Words)
	case xds.Dropped:
		o.rolls.Dropped(n.Stream, scope)
	}
}

// leftBehind counts laggards that a rotation of the scope went on without.
func (o *observer) leftBehind(scope string, n int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.skipped == nil {
		o.skipped = map[string]int{}
	}
	o.skipped[scope] += n
}

// behind returns how many nodes the rotations of a scope went on without.
func (o *observer) behind(scope string) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.skipped[scope]
}
