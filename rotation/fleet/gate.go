package fleet

import (
	"sync"

	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/rotation"
)

// Asked is a stream that asked for a ring.
type Asked struct {
	Stream uint64
	// Conn is its connection. A later one has a higher number. If it is 0, Stream counts.
	Conn     uint64
	Node     string // Node is the node's id.
	Identity string // Identity is who the node has shown to be; see Config.Allows.
	Held     string // Held is the version that the node says it holds, or "".
	// Believed says that the node certainly holds it. Else it is only known to have been here.
	Believed bool
	// Group is whom the node is counted with, if its id is not bound to whoever it is. Empty: the
	// node counts alone. See [rotation.Member].
	Group string
	// Ring says that the stream wants a ring and nothing else, so that a first refusal is a node's.
	Ring bool
}

// gate lets onto the roster of a scope only nodes that may have its ring, so that no other is
// waited for. It takes those off that may have it no longer. If everybody may have every ring, it
// keeps nothing.
type gate struct {
	to      *Coordinator
	revoked func(scope string, a Asked)

	mu      sync.Mutex // mu also keeps what a stream does in order with a change of allows.
	allows  func(node, identity, scope string) bool
	streams map[uint64]map[string]*asker // streams are those that asked, by stream and scope.
}

// asker is a stream that asked for the ring of a scope.
type asker struct {
	Asked
	allowed bool
}

func newGate(to *Coordinator, allows func(node, identity, scope string) bool, revoked func(string, Asked)) *gate {
	return &gate{to: to, allows: allows, revoked: revoked, streams: map[uint64]map[string]*asker{}}
}

// Join reports that a stream asked for the ring.
func (c *Coordinator) Join(scope string, a Asked) {
	g := c.gate
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.allows == nil {
		c.enroll(scope, a)
		return
	}
	of := &asker{a, g.allows(a.Node, a.Identity, scope)}
	if g.streams[a.Stream] == nil {
		g.streams[a.Stream] = map[string]*asker{}
	}
	g.streams[a.Stream][scope] = of
	if of.allowed {
		c.enroll(scope, a)
	}
}

// Accepted reports that a stream accepted a version of the ring, or said on connecting that it
// holds it.
func (c *Coordinator) Accepted(stream uint64, scope, version string) {
	g := c.gate
	g.mu.Lock()
	defer g.mu.Unlock()
	if of := g.streams[stream][scope]; of != nil {
		of.Held, of.Believed = version, true
	}
	if g.passes(stream, scope) {
		c.noteAccepted(stream, scope, version)
	}
}

// Refused reports that a stream refused a version of the ring, with the node's own words.
func (c *Coordinator) Refused(stream uint64, scope, version, words string) {
	g := c.gate
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.passes(stream, scope) {
		c.noteRefused(stream, scope, version, words)
	}
}

// Dropped reports that a stream no longer wants the ring, while its node goes on.
func (c *Coordinator) Dropped(stream uint64, scope string) {
	g := c.gate
	g.mu.Lock()
	defer g.mu.Unlock()
	passes := g.passes(stream, scope)
	delete(g.streams[stream], scope)
	if passes {
		c.noteDropped(stream, scope)
	}
}

// Closed reports the end of a stream.
func (c *Coordinator) Closed(stream uint64) {
	g := c.gate
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.streams, stream)
	for _, s := range c.scopes {
		s.mu.Lock()
		known := s.roster.end(stream, s.clock())
		s.mu.Unlock()
		if known {
			s.lookSoon()
		}
	}
}

// SetAllows replaces [Config.Allows], and judges the streams that are open by it.
func (c *Coordinator) SetAllows(allows func(node, identity, scope string) bool) {
	g := c.gate
	g.mu.Lock()
	defer g.mu.Unlock()
	g.allows = allows
	for stream, scopes := range g.streams {
		for scope, of := range scopes {
			may := allows == nil || allows(of.Node, of.Identity, scope)
			switch {
			case may && !of.allowed:
				c.enroll(scope, of.Asked)
			case !may && of.allowed:
				c.noteDropped(stream, scope)
				if g.revoked != nil {
					g.revoked(scope, of.Asked)
				}
			}
			of.allowed = may
		}
	}
}

// passes reports whether what the stream says of the scope's ring counts. The caller holds mu.
func (g *gate) passes(stream uint64, scope string) bool {
	if g.allows == nil {
		return true
	}
	of := g.streams[stream][scope]
	return of != nil && of.allowed
}

func (c *Coordinator) enroll(scope string, a Asked) {
	if s := c.scopes[scope]; s != nil {
		s.mu.Lock()
		in := s.roster.enter(a, s.held(), s.clock())
		s.mu.Unlock()
		if !in {
			s.crowdedOut.Do(func() {
				s.cfg.Log.Error("a node gets no ring for now, since too many ids share its identity: "+
					"list the ids of each identity in the policy (nodes)",
					"scope", scope, "node", a.Node, "identity", a.Identity, "bytes", maxGroupBytes)
			})
		}
		s.lookSoon()
	}
}

func (c *Coordinator) noteAccepted(stream uint64, scope, version string) {
	s := c.scopes[scope]
	generation, ok := keysource.ParseRingVersion(version)
	if s == nil || !ok {
		return
	}
	s.mu.Lock()
	before := s.roster.streams[stream]
	// A node that is waited for may have come back after a restart.
	back := before != nil && !before.Answered && s.rollout.Phase != rotation.Steady
	e := s.roster.accept(stream, generation)
	last := e != nil && s.reachedTarget(e)
	s.mu.Unlock()
	if last || back {
		s.lookSoon()
	}
}

func (c *Coordinator) noteRefused(stream uint64, scope, version, words string) {
	s := c.scopes[scope]
	generation, ok := keysource.ParseRingVersion(version)
	if s == nil || !ok {
		return
	}
	s.mu.Lock()
	barred := s.roster.refuse(stream, generation, words)
	s.mu.Unlock()
	if barred {
		s.firstRefusals.Do(func() {
			s.cfg.Log.Info("a first ring was refused: this stream wants a certificate, or the node cannot use rings; "+
				"it is answered with removal", "scope", scope, "stream", stream, "version", version, "words", words)
		})
	}
	s.lookSoon()
}

func (c *Coordinator) noteDropped(stream uint64, scope string) {
	if s := c.scopes[scope]; s != nil {
		s.mu.Lock()
		s.roster.drop(stream)
		s.mu.Unlock()
		s.lookSoon()
	}
}
