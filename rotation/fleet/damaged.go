package fleet

import (
	"context"
	"fmt"
	"time"

	"github.com/lockstep-tls/lockstep/rotation"
)

// replaceDamaged goes on from a ring whose record is damaged, and uses nothing of it. A replica
// that has the ring in memory writes it back after a while (see writeBack). By then the others
// have looked, too, and who damaged the record may have put it back. If nobody has the ring, only
// an operator can go on, by a command that needs no ring. It begins above all that is known to
// have been handed out.
func (t *turn) replaceDamaged(_ context.Context, a *attempt) error {
	if a.damaged == nil {
		t.damagedSince = time.Time{}
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.damagedSince.IsZero() {
		t.damagedSince = a.now
		t.open()
	}
	left := settleFor(t.cfg.Refresh) - a.now.Sub(t.damagedSince)
	switch {
	case left > 0 && t.ring != nil:
		return fmt.Errorf("the stored ring of scope %s is damaged, and nothing of it is used: %w; "+
			"it is written back in %s",
			t.name, a.damaged, left.Round(time.Second/10))
	case left > 0:
		return fmt.Errorf("the stored ring of scope %s is damaged, and nothing of it is used: %w; "+
			"another replica may have it and write it back; ask again in %s",
			t.name, a.damaged, left.Round(time.Second/10))
	case t.ring != nil:
		return nil
	case a.cmd != nil:
		a.r.Generation = t.highestKnown(a.t)
		return nil
	}
	return t.nobodyHasIt(a.damaged)
}

// nobodyHasIt returns the error of a scope whose ring is damaged and that no replica has.
func (s *scope) nobodyHasIt(damaged error) error {
	cure := ""
	if s.cfg.Cure != nil {
		cure = ": " + s.cfg.Cure(s.name)
	}
	return fmt.Errorf("the stored ring of scope %s is damaged, and no replica has it in memory: %w; "+
		"nodes keep what they hold, and nothing rotates%s", s.name, damaged, cure)
}

// highestKnown returns the highest generation of which anything outside the ring's record tells.
// The caller holds mu.
func (s *scope) highestKnown(t rotation.Tally) (g uint64) {
	g = t.Highest
	for _, m := range t.Members {
		g = max(g, m.Floor, m.Refused)
	}
	if s.cfg.HighestSent != nil {
		g = max(g, s.cfg.HighestSent.Highest(s.name))
	}
	return g
}
