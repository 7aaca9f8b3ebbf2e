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
func (b *Book) Wake() {
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

// Ready is closed once the records were read: refusals of before a restart are known.
func (b *Book) Ready() <-chan struct{} { return b.ready }

// Run looks each Refresh, and when woken, for what other replicas wrote, and removes what is over, until ctx ends. To be called once.
func (b *Book) Run(ctx context.Context) error {
	var since store.Rev
	down, first := false, true
	for {
		head, err := b.look(ctx, since)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil && !down:
			b.cfg.Log.Error("cannot look for who gets changed certificates first; trying again", "every", b.cfg.Refresh, "err", err)
		case err == nil && down:
			b.cfg.Log.Info("the store can be read for who gets changed certificates first again")
		}
		if down = err != nil; !down {
			since = head
			if first {
				first = false
				close(b.ready)
			}
			b.sweep(ctx)
		}
		timer := time.NewTimer(b.cfg.Refresh)
		select {
		case <-ctx.Done():
		case <-b.wake:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// look reads the records that have changed.
func (b *Book) look(ctx context.Context, since store.Rev) (store.Rev, error) {
	keys, head, err := b.cfg.Store.Changed(ctx, prefix, since)
	if err != nil {
		return 0, err
	}
	var names []keysource.Name
	for i, v := range store.GetAll(ctx, b.cfg.Store, keys) {
		segment, err := store.Segment(keys[i])
		if err != nil {
			continue
		}
		n := keysource.Name(segment)
		names = append(names, n)
		switch {
		case errors.Is(v.Err, store.ErrNotExist):
			b.forget(n)
		case errors.Is(v.Err, store.ErrSealed): // the next trial of the name replaces it
		case v.Err != nil:
			return 0, v.Err
		default:
			if r, err := decode(v.Val); err == nil {
				b.note(n, page{r, v.Rev, time.Now()})
			}
		}
	}
	if len(names) > 0 {
		b.cfg.Changed(names)
	}
	return head, nil
}

func (b *Book) forget(n keysource.Name) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.known, n)
}

// sweep removes records that are over. One that another replica may still want to read was met less than two refreshes and 10 s ago.
func (b *Book) sweep(ctx context.Context) {
	now := time.Now()
	b.mu.Lock()
	known := maps.Clone(b.known)
	b.mu.Unlock()
	var names []keysource.Name
	var changes []store.Change
	for n, p := range known {
		if refused := p.refused(); now.Sub(p.at) < 2*b.cfg.Refresh+10*time.Second || !refused.IsZero() && now.Sub(refused) < keepRefused {
			continue
		}
		names, changes = append(names, n), append(changes, store.Change{Key: key(n), Old: p.rev})
	}
	for i, out := range store.SwapAll(ctx, b.cfg.Store, changes) {
		if out.Err == nil {
			b.forget(names[i])
		}
	}
}
