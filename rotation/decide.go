package rotation

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/store"
)

// view is what a decision is made on.
type view struct {
	r     Rollout
	p     Policy
	t     Tally // valid while the decision lasts: the next one uses its room again
	now   time.Time
	due   time.Time // see Rollout.Due; of the view that decide returns
	fresh func() keysource.TicketKey

	damaged error // why the ring's record cannot be read; r is empty then, or what this replica has in its place
}

// decide carries the rollout as far as it can go now, and returns what it is then. A command, if there is one, changes it first. Each ring is a
// swap of its own with the rosters read anew before it; see [Rollout.Next]. On a conflict it begins again.
func (s *scope) decide(ctx context.Context, command func(view) (Rollout, error)) (view, error) {
	select {
	case s.turn <- struct{}{}:
		defer func() { <-s.turn }()
	case <-ctx.Done():
		return view{}, ctx.Err()
	}
	if err := s.restoreOnce(ctx); err != nil { // else a command that comes early takes the fleet for an empty one
		return view{}, err
	}
	var made []keysource.TicketKey
	for {
		v, rev, err := s.read(ctx)
		if err != nil {
			return v, err
		}
		if err := s.join(); err != nil {
			return v, err
		}
		if v.damaged == nil {
			err = s.orphaned(ctx, v)
		}
		if err != nil {
			return v, err
		}
		v.fresh = again(&made, s.cfg.Fresh)
		stored := v.r
		if err := s.mend(&v, command != nil); err != nil {
			return v, err
		}
		told := s.writeBack(&v)
		s.prove(&v)
		from := stored.Lines // those beyond are new
		if v.r.Generation != stored.Generation {
			from = told
		}
		burn, err := s.putBack(&v)
		if err != nil {
			return v, err
		}
		skewed := s.skewed()
		s.noteSkew(skewed)
		next := v.r
		switch {
		case skewed != nil && (burn || command != nil):
			return v, skewed
		case command != nil && !burn: // else it comes after the burn: what was put back is not to be sent
			if next, err = command(v); err != nil {
				return v, err
			}
		case burn:
			next, _ = v.r.Burn("lockstepd", "the store held an older ring than was sent before", v.fresh(), v.now)
		}
		changed := next.Generation != stored.Generation || next.Lines != stored.Lines || next.Wanted != stored.Wanted
		if next.Generation == stored.Generation && skewed == nil {
			var stepped bool
			next, stepped = next.Next(v.p, v.t, v.now, v.fresh)
			changed = changed || stepped
		}
		if changed {
			if next.Audit, err = s.record(ctx, v.r, next, from); err == nil {
				if err = s.swap(ctx, rev, next); errors.Is(err, store.ErrConflict) {
					continue
				}
			}
			switch {
			case refused(err):
				if v.r.Generation == stored.Generation && len(stored.Keys) > 0 { // it does not keep us from following the others
					v.r = stored
					s.adopt(v, told)
				}
				return v, err
			case err != nil:
				s.unsure = true
				return v, err
			}
		}
		v.r = next
		s.unsure = false
		s.recorded, made = recorded{}, nil
		s.adopt(v, told)
		if !changed {
			v.due = next.Due(v.p, v.t, v.now)
			return v, nil
		}
		if !burn {
			command = nil
		}
	}
}

// refused: a change was certainly not made, since changes cannot be written down now, or the store takes none.
func refused(err error) bool { return errors.Is(err, ErrUnrecorded) || errors.Is(err, store.ErrFrozen) }

// writeBack: a ring that was handed out is never overwritten by an older one. A store that has gone back to one, having lost writes, gets the newer
// one again; if it has gone another way since, all begins anew above both. It returns the number of the history's lines that were told already.
func (s *scope) writeBack(v *view) (told uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	lost := v.r.Generation
	switch {
	case s.ring == nil:
	case lost < s.rollout.Generation:
		hold, why := v.r.Hold, fmt.Sprintf("the store had gone back to g%d", lost)
		v.r = s.rollout.clone()
		switch { // rosters may be lost with it
		case v.damaged != nil: // they are not; but another replica may have a newer ring, and writes that back
			why = fmt.Sprintf("the stored record was damaged: %v", v.damaged)
			if s.cfg.Shared {
				v.r.Hold = latest(v.r.Hold, v.now.Add(s.cfg.Refresh+flushAfter*3/2))
			}
		case lost == 0: // nobody is known to be here until all replicas have written theirs, or their nodes' leases have ended
			v.r.Hold = latest(hold, v.now.Add(silentFor+s.policy.NodeLease))
		case s.cfg.Shared: // the newest words of some: each replica reads this within its refresh, and writes its own again
			v.r.Hold = latest(hold, v.now.Add(s.cfg.Refresh+flushAfter*3/2))
		}
		v.r.log(Line{At: v.now, What: LineWrittenBack, By: "lockstepd", Why: why})
		return s.rollout.Lines
	case lost == s.rollout.Generation && !slices.Equal(v.r.Ring().Keys, s.ring.Keys):
		s.roster.highest = max(s.roster.highest, lost+1)
		v.t.Highest = s.roster.highest
		s.proved = v.now.Add(-patience) // we know it ourselves, and have nothing to write back
	case s.unsure: // the lines that we read may be our own
		return s.rollout.Lines
	}
	return v.r.Lines
}

// prove keeps since when nodes are known to hold a later ring than the store's. The caller holds turn.
func (s *scope) prove(v *view) {
	switch {
	case v.t.Highest <= v.r.Generation:
		s.proved = time.Time{}
	case s.proved.IsZero():
		s.proved = v.now
	}
	v.t.Proved = s.proved
}

func (s *scope) ringKey() string { return store.Key(ringPrefix, s.name) }

// read reads the rollout first and the rosters after it; see look.
func (s *scope) read(ctx context.Context) (view, store.Rev, error) {
	v := view{r: Rollout{Scope: s.name}, p: s.policy, fresh: s.cfg.Fresh}
	var err error
	if v.now, err = s.now(ctx); err != nil {
		return v, 0, err
	}
	val, rev, err := s.cfg.Store.Get(ctx, s.ringKey())
	if err == nil && bytes.Equal(val, s.known.val) {
		v.r = s.known.r
	} else if err == nil {
		if v.r, err = decodeRollout(s.name, val); err == nil {
			s.known = known{val, v.r}
		}
	} else if errors.Is(err, store.ErrNotExist) {
		err = nil
	}
	if errors.Is(err, store.ErrSealed) && s.cfg.Unsealed != nil {
		if why := s.cfg.Unsealed(ctx); why != nil {
			return v, 0, errors.Join(err, why)
		}
	}
	if damaged(err) {
		v.damaged, v.r, err = err, Rollout{Scope: s.name}, nil
	}
	if err != nil {
		return v, 0, err
	}
	others, err := s.readOthers(ctx, v.now)
	if err != nil {
		return v, 0, err
	}
	s.mu.Lock()
	s.others, s.unread = others, s.unreadable()
	v.t = s.tallied(s.members[:0])
	s.members = v.t.Members
	s.mu.Unlock()
	s.reach(&v)
	return v, rev, nil
}

// reach keeps since when the phase waits for nobody. The caller holds turn.
func (s *scope) reach(v *view) {
	s.settled = s.settled.after(v.r, v.p, v.t, v.now)
	v.t.Reached = s.settled.since
}

// settled is since when nobody is waited for that a generation was sent to.
type settled struct {
	generation uint64
	since      time.Time
}

// after is what s becomes at another look.
func (s settled) after(r Rollout, p Policy, t Tally, now time.Time) settled {
	if r.Phase != Burning {
		return settled{}
	}
	late, _ := r.waiting(p, t, now)
	switch {
	case len(late) > 0:
		return settled{}
	case s.generation != r.Generation || s.since.IsZero():
		return settled{r.Generation, now}
	}
	return s
}

// now asks the store for its time, and sets our clock by it. How far the two are apart is known within the time that the answer took: what was known
// before is changed by no more than it must, so that a slow store does not look like a clock that is off.
func (s *scope) now(ctx context.Context) (time.Time, error) {
	asked := s.cfg.Clock()
	now, err := s.cfg.Store.Now(ctx)
	if err != nil {
		return now, err
	}
	least, most := now.Sub(s.cfg.Clock()), now.Sub(asked)
	s.mu.Lock()
	s.offset = max(min(s.offset, most), least)
	s.mu.Unlock()
	return now, nil
}

func (s *scope) swap(ctx context.Context, rev store.Rev, r Rollout) error {
	val, err := encodeRollout(r)
	if err != nil {
		return err
	}
	if _, err = s.cfg.Store.Swap(ctx, s.ringKey(), rev, val); err == nil {
		s.known = known{val, r}
	}
	return err
}

// adopt makes v what this replica goes by, wakes the streams if the ring is another one, and tells the lines of the history beyond told.
func (s *scope) adopt(v view, told uint64) {
	if s.cfg.Marks != nil {
		s.cfg.Marks.Raise(s.name, v.r.Generation)
	}
	s.mu.Lock()
	changed := s.publish(v.r)
	s.mu.Unlock()
	if changed {
		s.cfg.Wake(s.name, nil) // first of all: the rest is only for us
	}
	s.mu.Lock()
	late, _ := v.r.waiting(s.policy, v.t, v.now)
	s.waited = someNames(late)
	clear(s.late)
	again := false // somebody accepted while we looked
	for _, m := range late {
		e := s.roster.streams[m.Stream]
		switch {
		case e == nil: // away, or another replica's
		case e.Floor < v.r.target():
			s.late[e] = true
		default:
			again = true
		}
	}
	again = again && len(s.late) == 0
	s.mu.Unlock()
	fresh := 0
	if v.r.Lines > told {
		fresh = int(min(v.r.Lines-told, uint64(len(v.r.History))))
	}
	for _, l := range v.r.History[len(v.r.History)-fresh:] {
		version := ""
		if l.Generation == v.r.Generation {
			version = v.r.Ring().Version()
		}
		s.cfg.Tell(s.name, l, version)
	}
	if again {
		s.poke()
	}
}

// publish makes r the rollout whose ring is sent. It reports whether that is another ring. The caller holds mu.
func (s *scope) publish(r Rollout) bool {
	if !r.Hold.Equal(s.rollout.Hold) { // the store had lost something, perhaps our roster
		s.roster.dirty, s.rewrite = true, true
	}
	s.rollout = r
	if len(r.Keys) == 0 { // left to others: there is nothing to send yet, and nothing was ever sent
		s.open()
		return false
	}
	ring := r.Ring()
	if s.ring != nil && s.ring.Generation == ring.Generation {
		return false
	}
	s.open()
	s.ring = &ring
	return true
}

func latest(times ...time.Time) (last time.Time) {
	for _, t := range times {
		if t.After(last) {
			last = t
		}
	}
	return last
}
