package rotation

import (
	"context"
	"fmt"
	"time"

	"github.com/lockstep-tls/lockstep/store"
)

// Loss is what is known of a store that was emptied. Both methods may be called again and again, and from several goroutines.
type Loss interface {
	// Found is called when the store holds nothing of a scope that was sent before. It returns once that is written down where every replica sees it.
	Found(ctx context.Context) error
	// Since is when the store was found emptied; zero: it was not, or what it had lost was given up.
	Since(ctx context.Context) (time.Time, error)
}

// orphaned looks at a scope for which nothing is stored, before anything is done about it: that the store was emptied is written down before any node is let in.
// A replica to which the scope is new makes no first ring beside others that still have one: they write it back, and if there is none, those that
// remember how far it had come replace every key (see [scope.putBack]) before this one goes on.
func (s *scope) orphaned(ctx context.Context, v view) error {
	if s.cfg.Loss == nil || len(v.r.Keys) > 0 {
		return nil
	}
	s.mu.Lock()
	sent := s.ring != nil
	s.mu.Unlock()
	if sent || s.cfg.Marks != nil && s.cfg.Marks.Highest(s.name) > 0 {
		return s.cfg.Loss.Found(ctx)
	}
	since, err := s.cfg.Loss.Since(ctx)
	if err != nil || since.IsZero() {
		return err
	}
	left := 2*patience - v.now.Sub(since)
	if left <= 0 {
		return nil
	}
	s.mu.Lock()
	s.open()
	s.mu.Unlock()
	return fmt.Errorf("scope %s has no ring here: %w at %s; replicas that have one write it back, and if there is none, a new one is made in %s",
		s.name, store.ErrLost, since.UTC().Format(time.RFC3339), left.Round(time.Second))
}
