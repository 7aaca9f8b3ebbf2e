package trial

import (
	"context"
	"errors"
	"maps"
	"time"

	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/store"
)

// Wake has Run look for changes now. It never blocks.
func (t *Records) Wake() {
	select {
	case t.wake <- struct{}{}:
	default:
	}
}

// Ready is closed once the records were read. From then on refusals from before a restart are
// known.
func (t *Records) Ready() <-chan struct{} { return t.ready }

// Run looks at each Refresh, and when it is woken, for what other replicas wrote. It removes
// records that are no longer needed. It runs until ctx ends, and must be called only once.
func (t *Records) Run(ctx context.Context) error {
	var since store.Rev
	down, first := false, true
	for {
		head, err := t.look(ctx, since)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil && !down:
			t.cfg.Log.Error("cannot look for who gets changed certificates first; trying again", "every",
				t.cfg.Refresh, "err", err)
		case err == nil && down:
			t.cfg.Log.Info("the store can be read for who gets changed certificates first again")
		}
		if down = err != nil; !down {
			since = head
			if first {
				first = false
				close(t.ready)
			}
			t.sweep(ctx)
		}
		timer := time.NewTimer(t.cfg.Refresh)
		select {
		case <-ctx.Done():
		case <-t.wake:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// look reads the records that have changed.
func (t *Records) look(ctx context.Context, since store.Rev) (store.Rev, error) {
	keys, head, err := t.cfg.Store.Changed(ctx, prefix, since)
	if err != nil {
		return 0, err
	}
	var names []keysource.Name
	for i, v := range store.GetAll(ctx, t.cfg.Store, keys) {
		segment, err := store.Segment(keys[i])
		if err != nil {
			continue
		}
		n := keysource.Name(segment)
		names = append(names, n)
		switch {
		case errors.Is(v.Err, store.ErrNotExist):
			t.forget(n)
		case errors.Is(v.Err, store.ErrSealed): // the next trial of the name replaces it
		case v.Err != nil:
			return 0, v.Err
		default:
			if r, err := decode(v.Val); err == nil {
				t.note(n, knownRecord{r, v.Rev, time.Now()})
			}
		}
	}
	if len(names) > 0 {
		t.cfg.Changed(names)
	}
	return head, nil
}

func (t *Records) forget(n keysource.Name) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.known, n)
}

// sweep removes records that are no longer needed. It keeps one that was first seen less than two
// refreshes and 10 s ago. Another replica may still want to read it.
func (t *Records) sweep(ctx context.Context) {
	now := time.Now()
	t.mu.Lock()
	known := maps.Clone(t.known)
	t.mu.Unlock()
	var names []keysource.Name
	var changes []store.Change
	for n, p := range known {
		if refused := p.refused(); now.Sub(p.at) < 2*t.cfg.Refresh+10*time.Second || !refused.IsZero() &&
			now.Sub(refused) < keepRefused {
			continue
		}
		names, changes = append(names, n), append(changes, store.Change{Key: key(n), Old: p.rev})
	}
	for i, out := range store.SwapAll(ctx, t.cfg.Store, changes) {
		if out.Err == nil {
			t.forget(names[i])
		}
	}
}
