package fleet

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/rotation"
	"github.com/lockstep-tls/lockstep/store"
)

// Coordinator carries the rollouts of all scopes forward, in step with the coordinators of the
// other replicas on the same store. All methods are safe for concurrent use. Those that report
// what a stream did cost O(1) and never block on the store.
type Coordinator struct {
	cfg    Config
	scopes map[string]*scope
	gate   *gate
	ready  chan struct{}
}

// New checks nothing and starts nothing; see [Coordinator.Run].
func New(c Config) *Coordinator {
	if c.Fresh == nil {
		c.Fresh = keysource.NewTicketKey
	}
	if c.Clock == nil {
		c.Clock = time.Now
	}
	co := &Coordinator{cfg: c, scopes: map[string]*scope{}, ready: make(chan struct{})}
	co.gate = newGate(co, c.Allows, c.Revoked)
	var unread atomic.Int64
	unread.Store(int64(len(c.Scopes)))
	for name, policy := range c.Scopes {
		co.scopes[name] = newScope(name, policy, c, func() {
			if unread.Add(-1) == 0 {
				close(co.ready)
			}
		})
	}
	return co
}

// Run carries rollouts until ctx ends.
func (c *Coordinator) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, s := range c.scopes {
		g.Go(func() error { return s.loop(ctx) })
	}
	err := g.Wait()
	if errors.Is(err, errAlone) {
		for _, s := range c.scopes {
			err = errors.Join(err, s.withdraw())
		}
	}
	return err
}

// Scopes returns the names of the configured scopes, sorted.
func (c *Coordinator) Scopes() []string { return slices.Sorted(maps.Keys(c.scopes)) }

// Ready returns a channel that is closed once every scope's ring has been read or made. Streams
// may join from then on.
func (c *Coordinator) Ready() <-chan struct{} { return c.ready }

// Ring returns what a stream may be sent now, or nil if that is nothing yet. barred is true if the
// stream turned out to want a certificate under the ring's name, and is to learn that there is
// none. A scope that is not configured is never answered.
func (c *Coordinator) Ring(stream uint64, scope string) (ring *keysource.Ring, barred bool) {
	s := c.scopes[scope]
	if s == nil {
		return nil, false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.roster.barred[stream] {
		return nil, true
	}
	if e := s.roster.streams[stream]; e == nil || !e.ready {
		return nil, false
	}
	return s.ring, false
}

// Hopeless reports that a node refuses the ring, and that nothing which lockstepd can send helps:
// it must be restarted. It holds for each stream of the node that refuses a ring now, until it
// accepts one.
func (c *Coordinator) Hopeless(node string) {
	for _, s := range c.scopes {
		s.mu.Lock()
		known := s.roster.markStuck(node)
		s.mu.Unlock()
		if known {
			s.lookSoon()
		}
	}
}

// Poke has a scope look at the store now, since an event said that something changed.
func (c *Coordinator) Poke(scope string) {
	if s := c.scopes[scope]; s != nil {
		s.lookSoon()
	}
}

// Crowded returns how many streams get no ring of a scope for now, since their group takes as much
// of the roster as it may.
func (c *Coordinator) Crowded(scope string) int {
	s := c.scopes[scope]
	if s == nil {
		return 0
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.roster.crowded)
}

// Status is the state of one scope at one moment. It holds no key bytes.
type Status struct {
	rotation.View
	Replica string // Replica is this one.
	Policy  rotation.Policy
	Members []rotation.Member // Members are sorted by name.
	Now     time.Time         // Now is by the store's clock.
	// TicketLifetime is how long tickets are good for that nodes of this replica issue; see
	// [Coordinator.TicketLifetime].
	TicketLifetime time.Duration
	// Lifetimes are those that are in force at all replicas, by replica.
	Lifetimes map[string]time.Duration
	// Err says why the store could not be read or written at the last try.
	Err error
	// Summed is how many nodes of this replica other replicas know as one, since its roster has no
	// room for an entry of each.
	Summed int
	// Unreadable names rosters of other replicas that cannot be read, and why.
	Unreadable []string
}

// Status returns how a scope stands, from memory. The error wraps [keysource.ErrNotExist] for a
// scope that is not configured.
func (c *Coordinator) Status(scope string) (Status, error) {
	s, err := c.find(scope)
	if err != nil {
		return Status{}, err
	}
	r, t, st := s.snapshot()
	st.View, st.Members = r.View(st.beside(), t, st.Now), t.Members
	return st, nil
}

// Plan says what a rotation of the scope would do now. Errors are those of [Coordinator.Status].
func (c *Coordinator) Plan(scope string) (rotation.Plan, error) {
	s, err := c.find(scope)
	if err != nil {
		return rotation.Plan{}, err
	}
	r, t, st := s.snapshot()
	return r.Plan(st.beside(), t, st.Now), nil
}

// beside returns the policy as decisions go by it.
func (st Status) beside() rotation.Policy {
	return st.Policy.Beside(slices.Collect(maps.Values(st.Lifetimes))...)
}

// snapshot returns what is known of the scope. st lacks its view and its members.
func (s *scope) snapshot() (r rotation.Rollout, t rotation.Tally, st Status) {
	s.mu.Lock()
	r, t = s.rollout, s.tally(nil)
	st = Status{
		Replica: s.cfg.Replica, Policy: s.policy, TicketLifetime: s.told, Lifetimes: s.inForce,
		Now: s.clock(), Err: s.err, Summed: s.summed, Unreadable: s.unreadable,
	}
	s.mu.Unlock()
	slices.SortFunc(t.Members, byName)
	return r, t, st
}

// Version returns that of the ring that a scope has now, or "" while it has none.
func (c *Coordinator) Version(scope string) string {
	ring := c.Current(scope)
	if ring == nil {
		return ""
	}
	return ring.Version()
}

// Current returns the ring that a scope sends now, or nil while it has none. It is not to be
// changed.
func (c *Coordinator) Current(scope string) *keysource.Ring {
	s := c.scopes[scope]
	if s == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ring
}

// Has reports whether the scope is configured.
func (c *Coordinator) Has(scope string) bool { return c.scopes[scope] != nil }

func (c *Coordinator) find(scope string) (*scope, error) {
	s := c.scopes[scope]
	if s == nil {
		return nil, fmt.Errorf("scope %q %w: the configuration has %v", scope, keysource.ErrNotExist, c.Scopes())
	}
	return s, nil
}

// Audit returns what [Config.Record] returned for the last change of the scope's rollout, as this
// replica knows it. It is "" if there is none.
func (c *Coordinator) Audit(scope string) string {
	s := c.scopes[scope]
	if s == nil {
		return ""
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rollout.Audit
}

// StoredAudit returns the same as [Coordinator.Audit], as it stands in the store now.
func (c *Coordinator) StoredAudit(ctx context.Context, scope string) (string, error) {
	s, err := c.find(scope)
	if err != nil {
		return "", err
	}
	val, _, err := s.cfg.Store.Get(ctx, s.ringKey())
	if errors.Is(err, store.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	r, err := rotation.Decode(scope, val)
	return r.Audit, err
}
