package daemon

import (
	"log/slog"
	"sync"

	"github.com/lockstep-tls/lockstep/identity"
	"github.com/lockstep-tls/lockstep/rotation"
	"github.com/lockstep-tls/lockstep/xds"
)

// door lets onto the roster of a scope only nodes that may have its ring, so that no other is waited for, and takes those off that may no
// longer. Without a policy everybody passes, and nothing is kept.
type door struct {
	rolls *rotation.Coordinator
	log   *slog.Logger

	mu      sync.Mutex // also keeps the events of a stream in order with a change of the policy
	policy  *identity.Policy
	streams map[uint64]map[string]*caller // by stream and scope
}

// caller is a stream that asked for a ring.
type caller struct {
	asked    rotation.Asked
	identity string
	in       bool
}

// newDoor: a nil policy is none.
func newDoor(rolls *rotation.Coordinator, policy *identity.Policy, log *slog.Logger) *door {
	return &door{rolls: rolls, policy: policy, log: log, streams: map[uint64]map[string]*caller{}}
}

// ring takes what happened to a ring on a stream of the SDS service.
func (d *door) ring(e xds.Event, scope string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.policy == nil {
		d.pass(e, scope)
		return
	}
	id := e.Node.Stream
	c := d.streams[id][scope]
	switch e.Kind {
	case xds.Asked:
		c = &caller{asked: askedOf(e), identity: e.Node.Identity, in: d.policy.AllowsScope(e.Node.Identity, scope)}
		if d.streams[id] == nil {
			d.streams[id] = map[string]*caller{}
		}
		d.streams[id][scope] = c
	case xds.Accepted:
		if c != nil {
			c.asked.Held, c.asked.Believed = e.Version, true
		}
	case xds.Dropped:
		delete(d.streams[id], scope)
	}
	if c != nil && c.in {
		d.pass(e, scope)
	}
}

func (d *door) pass(e xds.Event, scope string) {
	switch e.Kind {
	case xds.Asked:
		d.rolls.Join(scope, askedOf(e))
	case xds.Accepted:
		d.rolls.Accepted(e.Node.Stream, scope, e.Version)
	case xds.Refused:
		d.rolls.Refused(e.Node.Stream, scope, e.Version, e.Words)
	case xds.Dropped:
		d.rolls.Dropped(e.Node.Stream, scope)
	}
}

func askedOf(e xds.Event) rotation.Asked {
	return rotation.Asked{Stream: e.Node.Stream, Conn: e.Node.Conn, Node: e.Node.ID, Held: e.Version, Believed: e.Believed, Ring: e.Node.Kind == xds.KindRing}
}

func (d *door) closed(stream uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.streams, stream)
	d.rolls.Closed(stream)
}

// setPolicy judges the streams that are open by another policy.
func (d *door) setPolicy(p *identity.Policy) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.policy = p
	for stream, scopes := range d.streams {
		for scope, c := range scopes {
			switch in := p.AllowsScope(c.identity, scope); {
			case in && !c.in:
				d.rolls.Join(scope, c.asked)
			case !in && c.in:
				d.rolls.Dropped(stream, scope)
				d.log.Warn("a node may no longer have the ring of a scope, and gets no further one; it keeps the keys that it holds: if it must not read tickets made with them, "+
					"burn them (lockstep burn)", "node", c.asked.Node, "identity", c.identity, "scope", scope, "holds", c.asked.Held)
			}
			c.in = p.AllowsScope(c.identity, scope)
		}
	}
}
