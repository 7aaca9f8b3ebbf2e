package rotation

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/store"
)

// Config of a [Coordinator]. Every field but Fresh is needed.
type Config struct {
	Store   store.Store
	Replica string            // names this replica's rosters in the store; the same after a restart
	Scopes  map[string]Policy // checked
	Refresh time.Duration     // how often the store is read although nobody said that it changed
	// Shared: other replicas may use the same store. Then a node that asks for its first ring is kept waiting while its name cannot be stored, since
	// another replica might go on without it. Alone, this one knows of it: what is published goes on being served.
	Shared bool
	Self   Peer // what the other replicas are told of this one: Admin and Alone

	// Marks outlive the store; nil: there are none.
	Marks Marks
	// Loss knows whether the store was emptied; nil: it is not asked.
	Loss Loss

	// Unsealed is asked when a ring does not open: an error says that others' records do not open, either, so that this replica lacks their key and nothing is
	// damaged. nil: what does not open is damaged.
	Unsealed func(ctx context.Context) error

	// Wake says that what Ring returns for the scope may have changed: for these streams, or for all where streams is nil. Tell says
	// what was done, and the version of the ring that it led to, where that ring was sent ("" where it was replaced in the same go). Both are called from the goroutine that did it and must not block.
	Wake func(scope string, streams []uint64)
	Tell func(scope string, l Line, version string)
	// Record writes down what is about to be done, before it is, and returns where that stands, which is stored with the rollout. Its error
	// refuses the change. Nobody else was first so far; if somebody turns out to have been, the change is not made. nil: nothing is written down.
	Record func(ctx context.Context, scope string, c Change) (audit string, err error)

	Fresh func() keysource.TicketKey // makes keys; nil: keysource.NewTicketKey
	Clock func() time.Time           // this machine's clock; nil: time.Now
	Log   *slog.Logger
}

// Coordinator carries the rollouts of all scopes forward, in step with the coordinators of the other replicas on the same store. All
// methods are safe for concurrent use; those that report what a stream did cost O(1) and never block on the store.
type Coordinator struct {
	scopes map[string]*scope
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
	co := &Coordinator{scopes: map[string]*scope{}, ready: make(chan struct{})}
	var left atomic.Int64
	left.Store(int64(len(c.Scopes)))
	for name, policy := range c.Scopes {
		co.scopes[name] = newScope(name, policy, c, func() {
			if left.Add(-1) == 0 {
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
		g.Go(func() error { return s.run(ctx) })
	}
	err := g.Wait()
	if errors.Is(err, ErrAlone) {
		for _, s := range c.scopes {
			err = errors.Join(err, s.withdraw())
		}
	}
	return err
}

// Scopes are the names of the configured scopes, sorted.
func (c *Coordinator) Scopes() []string { return slices.Sorted(maps.Keys(c.scopes)) }

// Ready is closed once every scope's ring has been read or made. Streams may join from then on.
func (c *Coordinator) Ready() <-chan struct{} { return c.ready }

// Ring returns what a stream may be sent now; nil: nothing yet. barred: the stream turned out to want a certificate under the ring's name, and is
// to be told that there is none. A scope that is not configured is never answered.
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

// Asked is a stream that asked for a ring.
type Asked struct {
	Stream   uint64
	Conn     uint64 // its connection: one that came later has a higher number; 0: not known, the stream's number counts
	Node     string // the node id
	Held     string // the version that the node says it holds; empty: none
	Believed bool   // the node is certain to hold it. Else all that is known is that it was here before
	Ring     bool   // it wants a ring and nothing else, so that a first refusal is a node's
}

// Join reports that a stream asked for the ring.
func (c *Coordinator) Join(scope string, a Asked) {
	if s := c.scopes[scope]; s != nil {
		s.mu.Lock()
		s.roster.join(a, s.held(), s.clock())
		s.mu.Unlock()
		s.poke()
	}
}

// Accepted reports that a stream accepted a version of the ring, or said on connecting that it holds it.
func (c *Coordinator) Accepted(stream uint64, scope, version string) {
	s := c.scopes[scope]
	generation, ok := keysource.ParseRingVersion(version)
	if s == nil || !ok {
		return
	}
	s.mu.Lock()
	first := s.roster.streams[stream]
	back := first != nil && !first.Answered && s.rollout.Phase != Steady // it may be a node that is waited for and came back after a restart
	e := s.roster.accepted(stream, generation)
	last := e != nil && s.caughtUp(e)
	s.mu.Unlock()
	if last || back {
		s.poke()
	}
}

// Refused reports that a stream refused a version of the ring, with the node's own words.
func (c *Coordinator) Refused(stream uint64, scope, version, words string) {
	s := c.scopes[scope]
	generation, ok := keysource.ParseRingVersion(version)
	if s == nil || !ok {
		return
	}
	s.mu.Lock()
	barred := s.roster.refused(stream, generation, words)
	s.mu.Unlock()
	if barred {
		s.strays.Do(func() {
			s.cfg.Log.Info("a first ring was refused: this stream wants a certificate, or the node cannot use rings; it is answered with removal",
				"scope", scope, "stream", stream, "version", version, "words", words)
		})
	}
	s.poke()
}

// Hopeless reports that a node refuses the ring, and that nothing which lockstepd can send helps: it must be
// restarted. It holds for each stream of the node that refuses a ring now, until it accepts one.
func (c *Coordinator) Hopeless(node string) {
	for _, s := range c.scopes {
		s.mu.Lock()
		known := s.roster.hopeless(node)
		s.mu.Unlock()
		if known {
			s.poke()
		}
	}
}

// Dropped reports that a stream no longer wants the ring, while its node goes on.
func (c *Coordinator) Dropped(stream uint64, scope string) {
	if s := c.scopes[scope]; s != nil {
		s.mu.Lock()
		s.roster.dropped(stream)
		s.mu.Unlock()
		s.poke()
	}
}

// Closed reports the end of a stream.
func (c *Coordinator) Closed(stream uint64) {
	for _, s := range c.scopes {
		s.mu.Lock()
		known := s.roster.closed(stream, s.clock())
		s.mu.Unlock()
		if known {
			s.poke()
		}
	}
}

// Poke has a scope look at the store now: an event said that something changed.
func (c *Coordinator) Poke(scope string) {
	if s := c.scopes[scope]; s != nil {
		s.poke()
	}
}

// Status is the state of one scope at one moment.
type Status struct {
	Rollout Rollout // holds keys: never marshal it
	Policy  Policy
	Tally   Tally
	Now     time.Time
	Err     error    // why the store could not be read or written at the last try
	Unread  []string // rosters of other replicas that cannot be read, and why
}

// Status tells how a scope stands, from memory. The error wraps [keysource.ErrNotExist] for a scope that is not configured.
func (c *Coordinator) Status(scope string) (Status, error) {
	s, err := c.find(scope)
	if err != nil {
		return Status{}, err
	}
	s.mu.Lock()
	st := Status{Rollout: s.rollout, Policy: s.policy, Tally: s.tallied(nil), Now: s.clock(), Err: s.err, Unread: s.unread}
	s.mu.Unlock()
	slices.SortFunc(st.Tally.Members, byName)
	return st, nil
}

// Version is that of the ring that a scope has now, "" while it has none.
func (c *Coordinator) Version(scope string) string {
	s := c.scopes[scope]
	if s == nil {
		return ""
	}
	s.mu.Lock()
	ring := s.ring
	s.mu.Unlock()
	if ring == nil {
		return ""
	}
	return ring.Version()
}

// Current is the ring that a scope sends now; nil while it has none. It is not to be changed.
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

// Rotate asks for a rotation and returns its number; Burn, Rollback and Exclude likewise. Each is one swap in the store, together with
// whatever is open at once behind it. Errors wrap [ErrRefused], [keysource.ErrBadTicketKey], [keysource.ErrNotExist], or are the store's.
func (c *Coordinator) Rotate(ctx context.Context, scope string, q Request) (n uint64, err error) {
	err = c.change(ctx, scope, func(v view) (Rollout, error) {
		q.At = v.now
		r, number, err := v.r.Ask(q)
		n = number
		return r, err
	})
	return n, err
}

// Burn replaces every key at once; see [Rollout.Burn].
func (c *Coordinator) Burn(ctx context.Context, scope, by, why string) (n uint64, err error) {
	err = c.force(ctx, scope, func(v view) (r Rollout, _ error) {
		why := why
		if len(v.r.Keys) == 0 && v.damaged != nil {
			why += " (the stored ring was damaged, and no replica had it)"
		}
		r, n = v.r.Burn(by, why, v.fresh(), v.now)
		return r, nil
	})
	return n, err
}

// Rollback undoes the newest change; see [Rollout.Rollback].
func (c *Coordinator) Rollback(ctx context.Context, scope, by, why string) (n uint64, err error) {
	err = c.change(ctx, scope, func(v view) (r Rollout, err error) {
		r, n, err = v.r.Rollback(by, why, v.p, v.t, v.now, v.fresh())
		return r, err
	})
	return n, err
}

// Exclude lets rollouts go on without a node for a time; 0 takes it back. See [Rollout.Exclude].
func (c *Coordinator) Exclude(ctx context.Context, scope, node, by, why string, d time.Duration) error {
	return c.change(ctx, scope, func(v view) (Rollout, error) {
		return v.r.Exclude(node, by, why, v.now.Add(d), v.now)
	})
}

func (c *Coordinator) find(scope string) (*scope, error) {
	s := c.scopes[scope]
	if s == nil {
		return nil, fmt.Errorf("scope %q %w: the configuration has %v", scope, keysource.ErrNotExist, c.Scopes())
	}
	return s, nil
}

// change makes a change of the ring that there is.
func (c *Coordinator) change(ctx context.Context, scope string, f func(view) (Rollout, error)) error {
	return c.force(ctx, scope, func(v view) (Rollout, error) {
		if len(v.r.Keys) == 0 && v.damaged != nil {
			return v.r, v.unmended(scope)
		}
		return f(v)
	})
}

// force makes a change that needs no ring: where that is damaged and nobody has it, f gets a rollout without keys.
func (c *Coordinator) force(ctx context.Context, scope string, f func(view) (Rollout, error)) error {
	s, err := c.find(scope)
	if err != nil {
		return err
	}
	_, err = s.decide(ctx, f)
	time.AfterFunc(gather, s.poke) // all that is open was done; what remains is to wait for what is due next
	return err
}
