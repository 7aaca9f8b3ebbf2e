package daemon

import (
	"fmt"
	"time"

	"github.com/lockstep-tls/lockstep/cmd/internal/recorder"
	"github.com/lockstep-tls/lockstep/events"
	"github.com/lockstep-tls/lockstep/identity"
	"github.com/lockstep-tls/lockstep/rotation/fleet"
)

// scopesOf returns which scopes' rings p allows; nil, if p is none, allows all. A node whose id p
// does not allow is about to lose its stream, and is no longer waited for.
func scopesOf(p *identity.Policy) func(node, identity, scope string) bool {
	if p == nil {
		return nil
	}
	return func(node, identity, scope string) bool {
		return p.AllowsScope(identity, scope) && p.AllowsNode(identity, node)
	}
}

// revoked says that a node may no longer have the ring of a scope.
func (d *Daemon) revoked(scope string, a fleet.Asked) {
	d.log.Warn("a node may no longer have the ring of a scope, and gets no further one; "+
		"it keeps the keys that it holds: "+
		"if it must not read tickets made with them, burn them (lockstep burn)",
		"node", a.Node, "identity", a.Identity, "scope", scope, "holds", a.Held)
}

// dismiss sends nodes to the other replicas.
func (d *Daemon) dismiss(refuse time.Duration) int {
	n := d.xds.Dismiss(refuse)
	if n > 0 {
		d.rec.Record(recorder.Entry{Logged: true, Event: events.Event{Kind: events.NodeLetGo, Text: fmt.Sprintf(
			"the nodes of this replica were let go, since it cannot write to the store: %d streams were ended", n)}})
	}
	return n
}
