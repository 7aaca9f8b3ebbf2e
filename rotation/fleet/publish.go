package fleet

import "github.com/lockstep-tls/lockstep/rotation"

// publish makes the rollout of v what this replica goes by, and wakes the streams if its ring is
// another one. Then it announces the lines of the history that were not announced yet.
func (t *turn) publish(v view, announced uint64) {
	// A disk takes milliseconds, while nodes take the ring. The turn waits for both: nothing is
	// decided on a generation, and nothing announced, before its mark is kept.
	raised := make(chan struct{})
	go func() {
		defer close(raised)
		if t.cfg.HighestSent != nil {
			t.cfg.HighestSent.Raise(t.name, v.r.Generation)
		}
	}()
	t.mu.Lock()
	changed := t.setRollout(v.r)
	t.mu.Unlock()
	if changed {
		t.cfg.Wake(t.name, nil) // first of all, since what follows is only for this replica
	}
	<-raised
	again := t.noteLate(v)
	fresh := 0
	if v.r.Lines > announced {
		fresh = int(min(v.r.Lines-announced, uint64(len(v.r.History))))
	}
	for _, l := range v.r.History[len(v.r.History)-fresh:] {
		version := ""
		if l.Generation == v.r.Generation {
			version = v.r.Ring().Version()
		}
		t.cfg.Announce(t.name, l, version)
	}
	if again {
		t.lookSoon()
	}
}

// noteLate keeps for whom the phase waits. It reports whether the last of this replica's nodes
// accepted while the decision was made, so that another look is due.
func (t *turn) noteLate(v view) (again bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	late := v.r.Late(v.p, v.t, v.now)
	t.waited = rotation.Names(late)
	clear(t.late)
	for _, m := range late {
		e := t.roster.streams[m.Stream]
		switch {
		case e == nil: // away, or another replica's
		case e.Floor < v.r.Target():
			t.late[e] = true
		default:
			again = true
		}
	}
	return again && len(t.late) == 0
}

// setRollout makes r the rollout whose ring is sent. It reports whether that is another ring. The
// caller holds mu.
func (s *scope) setRollout(r rotation.Rollout) bool {
	if !r.Hold.Equal(s.rollout.Hold) {
		// the store had lost something, perhaps this replica's roster
		s.roster.dirty, s.rewrite = true, true
	}
	s.rollout = r
	if len(r.Keys) == 0 {
		// other replicas make the ring: nothing can be sent yet, and nothing was ever sent
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
