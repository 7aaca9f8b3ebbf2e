// Package observer passes what happens on streams on to whom it concerns: the rosters, the healer,
// the prover, the listeners, and who counts and records. It decides nothing, and does not block.
package observer

import (
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/lockstep-tls/lockstep/cmd/internal/listeners"
	"github.com/lockstep-tls/lockstep/cmd/internal/presence"
	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/lds"
	"github.com/lockstep-tls/lockstep/rotation/fleet"
	"github.com/lockstep-tls/lockstep/sds"
	"github.com/lockstep-tls/lockstep/xds"
)

// Config names who is told.
type Config struct {
	Rollouts  *fleet.Coordinator
	Listeners *listeners.Listeners // Listeners is nil if none is served.
	Healer    *sds.Healer
	Table     *sds.Table
	Prover    *sds.Prover
	Nodes     *presence.Registry
	Group     func(xds.Node) string // Group is [fleet.Asked].Group of a node.
	Took      func(xds.Event)       // Took counts how long things took.
	Log       *slog.Logger
}

// Observer passes what happens on streams on to the rosters and others, and counts it.
type Observer struct {
	cfg   Config
	kinds [xds.Kinds]atomic.Uint64 // kinds counts events by xds.Kind.
	// absent logs what nodes ask for that lockstepd does not have.
	absent *absences

	mu      sync.Mutex
	skipped map[string]int // skipped counts the laggards left behind, by scope.
}

// New returns an observer that has seen nothing.
func New(c Config) *Observer { return &Observer{cfg: c, absent: newAbsences(c.Table, c.Log)} }

// Counts returns how often each kind of event happened, by [xds.Kind].
func (o *Observer) Counts() (out []uint64) {
	for i := range o.kinds {
		out = append(out, o.kinds[i].Load())
	}
	return out
}

// Observe is called by the goroutines of the streams.
func (o *Observer) Observe(e xds.Event) {
	o.kinds[e.Kind].Add(1)
	o.cfg.Nodes.Observe(e)
	o.cfg.Healer.Observe(e)
	o.cfg.Table.Observe(e)
	o.cfg.Prover.Observe(e)
	o.cfg.Took(e)
	if e.Kind == xds.Closed {
		o.cfg.Rollouts.Closed(e.Node.Stream)
		o.cfg.Listeners.Observe(e)
		return
	}
	if e.Type == lds.TypeURL {
		if o.cfg.Listeners.Observe(e); e.Kind == xds.Refused {
			o.cfg.Log.Error("a node refused the listener; it goes on with the last one that it took",
				"node", e.Node.ID, "version", e.Version, "words", e.Words)
		}
		return
	}
	o.absent.asked(e)
	scope, ring := keysource.RingScope(e.Name)
	if !ring || e.Node.Service != xds.SDS {
		switch e.Kind {
		case xds.Refused:
			o.cfg.Log.Warn("a node refused a secret", "node", e.Node.ID,
				"name", e.Name, "version", e.Version, "words", e.Words)
		case xds.Cured:
			o.cfg.Log.Warn("a node took something else in the place of a certificate that it had refused",
				"node", e.Node.ID, "name", e.Name, "version", e.Version)
		case xds.Stuck:
			o.cfg.Log.Error("a node refuses a certificate and whatever is sent in its place: restart this Envoy",
				"node", e.Node.ID, "name", e.Name, "version", e.Version, "words", e.Words)
		}
		return
	}
	if e.Kind == xds.Asked && !o.cfg.Rollouts.Has(scope) {
		o.cfg.Log.Warn("a node asks for the ring of a scope that is not configured, and gets no answer",
			"node", e.Node.ID, "scope", scope, "configured", o.cfg.Rollouts.Scopes())
	}
	o.ring(e, scope)
}

// ring passes on what happened to a ring on a stream of the SDS service.
func (o *Observer) ring(e xds.Event, scope string) {
	switch n := e.Node; e.Kind {
	case xds.Asked:
		o.cfg.Rollouts.Join(scope, fleet.Asked{
			Stream: n.Stream, Conn: n.Conn, Node: n.ID, Identity: n.Identity,
			Held: e.Version, Believed: e.Believed, Ring: n.Kind == xds.KindRing, Group: o.cfg.Group(n),
		})
	case xds.Accepted:
		o.cfg.Rollouts.Accepted(n.Stream, scope, e.Version)
	case xds.Refused:
		o.cfg.Rollouts.Refused(n.Stream, scope, e.Version, e.Words)
	case xds.Dropped:
		o.cfg.Rollouts.Dropped(n.Stream, scope)
	}
}

// LeftBehind counts laggards that a rotation of the scope went on without.
func (o *Observer) LeftBehind(scope string, n int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.skipped == nil {
		o.skipped = map[string]int{}
	}
	o.skipped[scope] += n
}

// Behind returns how many nodes the rotations of a scope went on without.
func (o *Observer) Behind(scope string) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.skipped[scope]
}
