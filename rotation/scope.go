package rotation

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/store"
)

// The owner prefixes of this package in the store.
const (
	ringPrefix   = "ring"   // ring/<scope>: the Rollout
	rosterPrefix = "roster" // roster/<scope>/<replica>
)

const (
	heartbeat  = 10 * time.Second // a roster is written at least so often while somebody is on it
	silentFor  = 3 * heartbeat    // a replica whose roster is older than this is dead, and its nodes away
	flushAfter = time.Second      // acceptances are written at most this much later; only joins cannot wait
	retryAfter = time.Second      // after a failed look at the store
)

// scope carries one rollout. run's goroutine reads and writes the store; turn keeps commands from swapping under its feet; mu guards
// what streams touch.
type scope struct {
	name   string
	policy Policy
	cfg    Config
	wake   chan struct{} // capacity 1
	ready  chan struct{} // closed once the ring is known

	turn sync.Mutex // held from reading the rollout to swapping it; before mu

	mu      sync.Mutex
	roster  *roster
	rollout Rollout         // as last read or written
	ring    *keysource.Ring // of rollout; nil until the first read
	others  []Member        // the other replicas' rosters, as last read
	late    map[*entry]bool // ours that the phase waits for
	waited  []string        // all that it waits for
	offset  time.Duration   // the store's clock less ours
	err     error           // of the last look at the store
	stored  time.Time       // when our roster was written last
}

func newScope(name string, p Policy, c Config) *scope {
	return &scope{name: name, policy: p, cfg: c, wake: make(chan struct{}, 1), ready: make(chan struct{}), roster: newRoster(), late: map[*entry]bool{}}
}

func (s *scope) poke() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// clock is the store's clock as of the last look.
func (s *scope) clock() time.Time { return time.Now().Add(s.offset) }

func (s *scope) held() keysource.Ring {
	if s.ring == nil {
		return keysource.Ring{}
	}
	return *s.ring
}

// caughtUp takes e off the list of those that the phase waits for, if it has reached the target, and reports whether it was the last of ours.
func (s *scope) caughtUp(e *entry) bool {
	if !s.late[e] || e.Floor < s.rollout.target() {
		return false
	}
	delete(s.late, e)
	return len(s.late) == 0
}

func (s *scope) tallied() Tally {
	return Tally{Members: union(s.roster.snapshot(false), s.others), Highest: s.roster.highest, Waited: s.waited}
}

func (s *scope) run(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for restored := false; ; {
		select {
		case <-ctx.Done():
			return s.leave()
		case <-s.wake:
		case <-timer.C:
		}
		wait, err := retryAfter, error(nil)
		if !restored {
			err = s.restore(ctx)
			restored = err == nil
		}
		if restored {
			wait, err = s.look(ctx)
		}
		if ctx.Err() != nil {
			return s.leave()
		}
		s.mu.Lock()
		if err != nil && s.err == nil {
			s.cfg.Log.Error("the store cannot be used; what is published goes on being served", "scope", s.name, "err", err)
		}
		s.err = err
		s.mu.Unlock()
		timer.Reset(wait)
	}
}

// leave writes the roster a last time, so that the next start knows what the nodes hold.
func (s *scope) leave() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	s.mu.Lock()
	dirty := s.roster.dirty
	s.mu.Unlock()
	if dirty {
		return s.saveRoster(ctx)
	}
	return nil
}

func (s *scope) restore(ctx context.Context) error {
	now, err := s.cfg.Store.Now(ctx)
	if err != nil {
		return err
	}
	val, _, err := s.cfg.Store.Get(ctx, s.rosterKey())
	if errors.Is(err, store.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	ms, _, err := decodeRoster(val)
	if err != nil {
		return fmt.Errorf("%s: %w", s.rosterKey(), err)
	}
	s.mu.Lock()
	s.roster.restore(ms, now)
	s.mu.Unlock()
	return nil
}

func (s *scope) rosterKey() string { return store.Key(rosterPrefix, s.name, s.cfg.Replica) }

// look is one turn: write down who asked, read the ring again, let them in, decide. The order is what makes a joining node safe: a
// decision that did not see it was made before it was written down, so the ring that is read after that is the one it needs.
// It returns how long nothing will be due.
func (s *scope) look(ctx context.Context) (time.Duration, error) {
	s.mu.Lock()
	asked := s.roster.letIn(s.held().Generation)
	s.mu.Unlock()
	if err := s.store(ctx, len(asked) > 0); err != nil {
		s.askAgain(asked)
		return retryAfter, err
	}
	v, err := s.decide(ctx, func(v view) (Rollout, error) {
		s.admit(asked, v.r)
		return v.r, nil
	})
	if err != nil {
		s.askAgain(asked)
		return retryAfter, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.roster.expire(s.policy, v.now)
	wait := s.cfg.Refresh
	if due := v.r.Due(s.policy, v.t, v.now); !due.IsZero() {
		wait = min(wait, max(due.Sub(v.now), time.Millisecond))
	}
	if s.roster.dirty {
		wait = min(wait, flushAfter)
	}
	return wait, nil
}

func (s *scope) askAgain(asked []*entry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range asked {
		e.asked = !e.ready
	}
}

// admit lets those in that stand in the stored roster, now that r was read after it.
func (s *scope) admit(asked []*entry, r Rollout) {
	if len(asked) == 0 || len(r.Keys) == 0 {
		return
	}
	s.mu.Lock()
	changed := s.publish(r)
	streams := make([]uint64, 0, len(asked))
	for _, e := range asked {
		if !e.ready {
			e.ready = true
			streams = append(streams, e.Stream)
		}
	}
	s.mu.Unlock()
	if changed {
		s.cfg.Wake(s.name, nil)
	} else if len(streams) > 0 {
		s.cfg.Wake(s.name, streams)
	}
}

// store writes the roster if somebody joined, or if it is time.
func (s *scope) store(ctx context.Context, must bool) error {
	s.mu.Lock()
	age := s.clock().Sub(s.stored)
	due := must || s.roster.dirty && (age >= flushAfter || len(s.late) == 0 && s.rollout.Phase != Steady) ||
		len(s.roster.members) > 0 && age >= heartbeat
	s.mu.Unlock()
	if !due {
		return nil
	}
	return s.saveRoster(ctx)
}

func (s *scope) saveRoster(ctx context.Context) error {
	s.mu.Lock()
	members, now := s.roster.snapshot(true), s.clock()
	s.roster.dirty = false
	s.mu.Unlock()
	err := s.put(ctx, s.rosterKey(), encodeRoster(members, now))
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		s.roster.dirty = true
		return err
	}
	s.stored = now
	return nil
}

// put writes a value that only this replica writes.
func (s *scope) put(ctx context.Context, key string, val []byte) error {
	for {
		_, rev, err := s.cfg.Store.Get(ctx, key)
		if err != nil && !errors.Is(err, store.ErrNotExist) {
			return err
		}
		if _, err = s.cfg.Store.Swap(ctx, key, rev, val); !errors.Is(err, store.ErrConflict) {
			return err
		}
	}
}

// view is what a decision is made on.
type view struct {
	r     Rollout
	p     Policy
	t     Tally
	now   time.Time
	fresh func() keysource.TicketKey
}

// decide reads the rollout and then the rosters, applies f and Next, and swaps the result in if it differs; on a conflict it begins again. It
// returns what the rollout is now.
func (s *scope) decide(ctx context.Context, f func(view) (Rollout, error)) (view, error) {
	s.turn.Lock()
	defer s.turn.Unlock()
	for {
		v, rev, err := s.read(ctx)
		if err != nil {
			return v, err
		}
		before := v.r
		if v.r, err = f(s.writeBack(v)); err != nil {
			return v, err
		}
		asked := v.r.Lines != before.Lines || v.r.Wanted != before.Wanted
		next, stepped := v.r.Next(s.policy, v.t, v.now, s.fresh)
		if asked || stepped {
			if err := s.swap(ctx, rev, next); errors.Is(err, store.ErrConflict) {
				continue
			} else if err != nil {
				return v, err
			}
		}
		v.r = next
		s.adopt(v, before)
		return v, nil
	}
}

// writeBack: a ring that was handed out is never overwritten by an older one. A store that has gone back to one, having lost writes, gets
// the newer one again.
func (s *scope) writeBack(v view) view {
	s.mu.Lock()
	defer s.mu.Unlock()
	if lost := v.r.Generation; s.ring != nil && lost < s.rollout.Generation {
		v.r = s.rollout.clone()
		v.r.log(Line{At: v.now, What: "written-back", By: "lockstepd", Why: fmt.Sprintf("the store had gone back to g%d", lost)})
	}
	return v
}

func (s *scope) fresh() keysource.TicketKey { return s.cfg.Fresh() }

func (s *scope) ringKey() string { return store.Key(ringPrefix, s.name) }

// read reads the rollout first and the rosters after it; see look.
func (s *scope) read(ctx context.Context) (view, store.Rev, error) {
	v := view{r: Rollout{Scope: s.name}, p: s.policy, fresh: s.fresh}
	var err error
	if v.now, err = s.cfg.Store.Now(ctx); err != nil {
		return v, 0, err
	}
	val, rev, err := s.cfg.Store.Get(ctx, s.ringKey())
	if err == nil {
		v.r, err = decodeRollout(s.name, val)
	} else if errors.Is(err, store.ErrNotExist) {
		err = nil
	}
	if err != nil {
		return v, 0, err
	}
	others, err := s.readOthers(ctx, v.now)
	if err != nil {
		return v, 0, err
	}
	s.mu.Lock()
	s.offset, s.others = time.Until(v.now), others
	v.t = s.tallied()
	s.mu.Unlock()
	return v, rev, nil
}

// readOthers reads the rosters of the other replicas. A silent replica is dead: its nodes are away since it was heard of last.
func (s *scope) readOthers(ctx context.Context, now time.Time) (all []Member, err error) {
	var lists [][]Member
	for key, err := range s.cfg.Store.Keys(ctx, store.Key(rosterPrefix, s.name)+"/") {
		if err != nil {
			return nil, err
		}
		if key == s.rosterKey() {
			continue
		}
		val, rev, err := s.cfg.Store.Get(ctx, key)
		if errors.Is(err, store.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		ms, at, err := decodeRoster(val)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", key, err)
		}
		if now.Sub(at) > silentFor {
			for i := range ms {
				if ms[i].Connected {
					ms[i].Connected, ms[i].Since = false, at
				}
			}
			if now.Sub(at) > silentFor+s.policy.NodeLease {
				_, _ = s.cfg.Store.Swap(ctx, key, rev, nil) // nobody on it can be live; whoever deletes it first is as good
				continue
			}
		}
		lists = append(lists, ms)
	}
	return union(lists...), nil
}

func (s *scope) swap(ctx context.Context, rev store.Rev, r Rollout) error {
	val, err := encodeRollout(r)
	if err != nil {
		return err
	}
	_, err = s.cfg.Store.Swap(ctx, s.ringKey(), rev, val)
	return err
}

// adopt makes v what this replica goes by, wakes the streams if the ring is another one, and tells what was done.
func (s *scope) adopt(v view, before Rollout) {
	s.mu.Lock()
	changed := s.publish(v.r)
	late, _ := v.r.waiting(s.policy, v.t, v.now)
	s.waited = names(late)
	clear(s.late)
	again := false // somebody accepted while we looked
	for _, m := range late {
		e := s.roster.members[slot{m.Node, m.Nr}]
		switch {
		case e == nil || !e.Connected:
		case e.Floor < v.r.target():
			s.late[e] = true
		default:
			again = true
		}
	}
	again = again && len(s.late) == 0
	s.mu.Unlock()
	if changed {
		s.cfg.Wake(s.name, nil)
	}
	told := min(int(v.r.Lines-before.Lines), len(v.r.History))
	for _, l := range v.r.History[len(v.r.History)-told:] {
		s.cfg.Tell(s.name, l)
	}
	if again {
		s.poke()
	}
}

// publish makes r the rollout whose ring is sent. It reports whether that is another ring. The caller holds mu.
func (s *scope) publish(r Rollout) bool {
	changed := s.ring == nil || s.rollout.Generation != r.Generation
	s.rollout = r
	if !changed {
		return false
	}
	if s.ring == nil {
		close(s.ready)
	}
	ring := r.Ring()
	s.ring = &ring
	return true
}
