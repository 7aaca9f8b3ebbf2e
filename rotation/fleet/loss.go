package fleet

import (
	"context"
	"fmt"
	"time"

	"github.com/lockstep-tls/lockstep/store"
)

// findLoss looks at a scope for which nothing is stored, before anything is done about it. That
// the store was emptied is written down before any node is let in. A replica to which the scope is
// new makes no first ring beside others that still have one. They write it back. If there is none,
// those that remember how far it had come replace every key (see findPutBack) before this one goes
// on.
func (t *turn) findLoss(ctx context.Context, a *attempt) error {
	if t.cfg.Loss == nil || len(a.r.Keys) > 0 || a.damaged != nil {
		return nil
	}
	t.mu.Lock()
	sent := t.ring != nil
	t.mu.Unlock()
	if sent || t.cfg.HighestSent != nil && t.cfg.HighestSent.Highest(t.name) > 0 {
		return t.cfg.Loss.Found(ctx)
	}
	since, err := t.cfg.Loss.Since(ctx)
	if err != nil || since.IsZero() {
		return err
	}
	left := newRingAfter - a.now.Sub(since)
	if left <= 0 {
		return nil
	}
	t.mu.Lock()
	t.open()
	t.mu.Unlock()
	return fmt.Errorf("scope %s has no ring here: %w at %s; replicas that have one write it back, "+
		"and if there is none, a new one is made in %s", t.name, store.ErrLost,
		since.UTC().Format(time.RFC3339), left.Round(time.Second))
}
