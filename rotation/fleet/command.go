package fleet

import (
	"context"
	"fmt"
	"time"

	"github.com/lockstep-tls/lockstep/rotation"
)

// command changes a rollout as an operator asked.
type command func(view) (rotation.Rollout, error)

// Rotate asks for a rotation and returns its number. Burn, Rollback and Exclude do likewise. Each
// is one swap in the store, together with whatever is open at once behind it. Errors wrap
// [rotation.ErrRefused], [keysource.ErrBadTicketKey] or [keysource.ErrNotExist], or are the
// store's.
func (c *Coordinator) Rotate(ctx context.Context, scope string, q rotation.Request) (n uint64, err error) {
	err = c.change(ctx, scope, func(v view) (rotation.Rollout, error) {
		q.At = v.now
		r, number, err := v.r.Ask(q, v.p, v.now)
		n = number
		return r, err
	})
	return n, err
}

// Burn replaces every key at once; see [rotation.Rollout.Burn].
func (c *Coordinator) Burn(ctx context.Context, scope, by, why string) (n uint64, err error) {
	err = c.force(ctx, scope, func(v view) (r rotation.Rollout, _ error) {
		why := why
		if len(v.r.Keys) == 0 && v.damaged != nil {
			why += " (the stored ring was damaged, and no replica had it)"
		}
		r, n = v.r.Burn(by, why, v.fresh(), v.now)
		return r, nil
	})
	return n, err
}

// Rollback undoes the newest change; see [rotation.Rollout.Rollback].
func (c *Coordinator) Rollback(ctx context.Context, scope, by, why string) (n uint64, err error) {
	err = c.change(ctx, scope, func(v view) (r rotation.Rollout, err error) {
		r, n, err = v.r.Rollback(by, why, v.p, v.t, v.now, v.fresh())
		return r, err
	})
	return n, err
}

// Restore merges the record of a rollout from a backup into the scope's; see [rotation.Restore].
// Errors are those of [Coordinator.Rotate].
func (c *Coordinator) Restore(ctx context.Context, scope, by string, backup []byte) (out rotation.Restored, err error) {
	if _, err := rotation.Decode(scope, backup); err != nil {
		return out, fmt.Errorf("in the backup: %w", err)
	}
	err = c.force(ctx, scope, func(v view) (r rotation.Rollout, err error) {
		r, out, err = v.r.Restore(backup, by, v.now, v.fresh)
		return r, err
	})
	return out, err
}

// change runs a command that needs the ring.
func (c *Coordinator) change(ctx context.Context, scope string, f command) error {
	return c.force(ctx, scope, func(v view) (rotation.Rollout, error) {
		if len(v.r.Keys) == 0 && v.damaged != nil {
			return v.r, c.scopes[scope].nobodyHasIt(v.damaged)
		}
		return f(v)
	})
}

// force runs a command that needs no ring. If the ring is damaged and nobody has it, f gets a
// rollout without keys.
func (c *Coordinator) force(ctx context.Context, scope string, f command) error {
	s, err := c.find(scope)
	if err != nil {
		return err
	}
	_, err = s.decide(ctx, f)
	time.AfterFunc(gather, s.lookSoon) // all that is open was done; s waits for what is due next
	return err
}
