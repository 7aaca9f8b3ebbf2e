package rotation

import (
	"errors"
	"fmt"
	"time"

	"github.com/lockstep-tls/lockstep/store"
)

// damaged: err says that a ring's record was read and is not what was written. What another version of lockstepd wrote is not damaged.
func damaged(err error) bool {
	return errors.Is(err, store.ErrSealed) || errors.Is(err, errDamaged)
}

// mend goes on from a ring whose record is damaged; nothing of it is used. A replica that has the ring in memory writes it back after a while ([scope.writeBack]):
// by then the others have looked, too, and who damaged it may have put it back. Where nobody has it, only an operator can go on, by a command that needs no
// ring; it begins above all that is known to have been handed out. The caller holds turn.
func (s *scope) mend(v *view, commanded bool) error {
	if v.damaged == nil {
		s.broken = time.Time{}
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken.IsZero() {
		s.broken = v.now
		s.open()
	}
	left := s.cfg.Refresh + flushAfter*3/2 - v.now.Sub(s.broken)
	switch {
	case left > 0 && s.ring != nil:
		return fmt.Errorf("the stored ring of scope %s is damaged, and nothing of it is used: %w; it is written back in %s", s.name, v.damaged, left.Round(time.Second/10))
	case left > 0:
		return fmt.Errorf("the stored ring of scope %s is damaged, and nothing of it is used: %w; another replica may have it and write it back; ask again in %s",
			s.name, v.damaged, left.Round(time.Second/10))
	case s.ring != nil:
		return nil
	case commanded:
		v.r.Generation = s.reached(v.t)
		return nil
	}
	return v.unmended(s.name)
}

// unmended is what ails a scope whose ring is damaged and that no replica has.
func (v view) unmended(scope string) error {
	return fmt.Errorf("the stored ring of scope %s is damaged, and no replica has it in memory: %w; nodes keep what they hold, and nothing rotates: restore a backup of it "+
		"(lockstep restore FILE), or replace every key (lockstep burn %s)", scope, v.damaged, scope)
}

// reached is the highest generation that anything outside the ring's record tells of. The caller holds mu.
func (s *scope) reached(t Tally) (g uint64) {
	g = t.Highest
	for _, m := range t.Members {
		g = max(g, m.Floor, m.Refused)
	}
	if s.cfg.Marks != nil {
		g = max(g, s.cfg.Marks.Highest(s.name))
	}
	return g
}
