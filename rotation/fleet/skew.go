package fleet

import (
	"fmt"
	"time"

	"github.com/lockstep-tls/lockstep/rotation"
)

// Skew returns how far the store's clock is ahead of this machine's, as of the last look. off is
// true if that is so far that rollouts are left to the other replicas.
func (c *Coordinator) Skew() (skew time.Duration, off bool) {
	for _, s := range c.scopes {
		s.mu.Lock()
		if s.offset.Abs() > skew.Abs() {
			skew = s.offset
		}
		s.mu.Unlock()
	}
	return skew, c.cfg.Shared && skew.Abs() > maxSkew
}

// skewed returns an error if this machine's clock is too far off for rollouts.
func (s *scope) skewed() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.cfg.Shared || s.offset.Abs() <= maxSkew {
		return nil
	}
	return fmt.Errorf("%w: this machine's clock is %s off the store's (at most %s): set it; "+
		"until then the other replicas carry the rollouts", rotation.ErrRefused,
		s.offset.Abs().Round(time.Second), maxSkew)
}

// logSkew logs that skewed's answer is another than before.
func (t *turn) logSkew(skewed error) {
	off := skewed != nil
	if off == t.skewLogged {
		return
	}
	t.skewLogged = off
	if off {
		t.cfg.Log.Error("rollouts are left to the other replicas", "scope", t.name, "err", skewed)
	} else {
		t.cfg.Log.Info("this machine's clock is right again, and rollouts are carried", "scope", t.name)
	}
}
