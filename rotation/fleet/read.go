package fleet

import (
	"bytes"
	"context"
	"errors"
	"time"

	"github.com/lockstep-tls/lockstep/rotation"
	"github.com/lockstep-tls/lockstep/store"
)

// read reads the store's time, the rollout, and after it the rosters; see [scope.look]. Which
// lifetimes are in force comes last: of nodes that were read as done with a key, no later word
// matters.
func (t *turn) read(ctx context.Context, a *attempt) (err error) {
	if a.now, err = t.storeTime(ctx); err != nil {
		return err
	}
	if err = t.readRollout(ctx, a); err != nil {
		return err
	}
	a.stored = a.r
	others, err := t.readOthers(ctx, a.now, a.p.NodeLease)
	if err != nil {
		return err
	}
	t.mu.Lock()
	t.others, t.unreadable = others, t.unreadableRosters()
	a.t = t.tally(t.members[:0])
	t.members = a.t.Members
	t.mu.Unlock()
	t.quorum = t.quorum.after(a.r, a.p, a.t, a.now)
	a.t.AcceptedSince = t.quorum.since
	if a.lifetimes, err = t.readLifetimes(ctx); err != nil {
		return err
	}
	a.p = a.p.Beside(a.lifetimes.all()...)
	return nil
}

// readRollout reads the rollout's record. If that is damaged or missing, a.r is a rollout without
// keys.
func (t *turn) readRollout(ctx context.Context, a *attempt) error {
	a.r = rotation.Rollout{Scope: t.name}
	val, rev, err := t.cfg.Store.Get(ctx, t.ringKey())
	a.rev = rev
	switch {
	case errors.Is(err, store.ErrNotExist):
		return nil
	case err == nil && bytes.Equal(val, t.record.val):
		a.r = t.record.r
		return nil
	case err == nil:
		var r rotation.Rollout
		if r, err = rotation.Decode(t.name, val); err == nil {
			a.r, t.record = r, storedRecord{val, r}
			return nil
		}
	}
	if errors.Is(err, store.ErrSealed) && t.cfg.Unsealed != nil {
		if why := t.cfg.Unsealed(ctx); why != nil {
			return errors.Join(err, why)
		}
	}
	if isDamaged(err) {
		a.damaged = err
		return nil
	}
	return err
}

// storeTime asks the store for its time, and sets this machine's offset by it. How far the two
// clocks are apart is known within the time that the answer took. What was known before is changed
// by no more than it must, so that a slow store does not look like a clock that is off.
func (t *turn) storeTime(ctx context.Context) (time.Time, error) {
	asked := t.cfg.Clock()
	now, err := t.cfg.Store.Now(ctx)
	if err != nil {
		return now, err
	}
	least, most := now.Sub(t.cfg.Clock()), now.Sub(asked)
	t.mu.Lock()
	t.offset = max(min(t.offset, most), least)
	t.mu.Unlock()
	return now, nil
}

// quorum is since when a burn waits for nobody to accept its ring.
type quorum struct {
	generation uint64
	since      time.Time
}

// after returns what q becomes at another look.
func (q quorum) after(r rotation.Rollout, p rotation.Policy, t rotation.Tally, now time.Time) quorum {
	switch {
	case r.Phase != rotation.Burning, len(r.Late(p, t, now)) > 0:
		return quorum{}
	case q.generation != r.Generation || q.since.IsZero():
		return quorum{r.Generation, now}
	}
	return q
}
