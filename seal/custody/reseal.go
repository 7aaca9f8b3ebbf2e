package custody

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/lockstep-tls/lockstep/seal"
	"github.com/lockstep-tls/lockstep/store"
)

const (
	atOnce = 8  // records that are sealed at the same time; enough to share the store's syncs
	maxBad = 10 // how many bad records are named
)

// reseal seals every record with the primary key that is not sealed with it yet. Each is a
// compare-and-swap. A change that comes between wins, and the record is looked at again. The
// replica that made it may have the new key already.
func (c *Custodian) reseal(ctx context.Context) error {
	records := 0
	for _, err := range c.cfg.Raw.Keys(ctx, "") {
		if err != nil {
			return err
		}
		records++
	}
	c.setWork(func(w *Work) { *w = Work{Underway: true, Records: records} })
	defer c.setWork(func(w *Work) { w.Underway = false })
	c.cfg.Log.Info("sealing every record with the new key", "records", records,
		"key", c.cfg.Sealer.State().Primary.String())
	var n atomic.Int64
	err := c.each(ctx, func(ctx context.Context, key string) error {
		changed, err := c.resealOne(ctx, key)
		switch {
		case errors.Is(err, seal.ErrOpen):
			c.setWork(func(w *Work) {
				if w.Seen++; len(w.Bad) < maxBad {
					w.Bad = append(w.Bad, key)
				}
			})
			return nil
		case err != nil:
			return fmt.Errorf("sealing %s anew: %w", key, err)
		}
		if changed {
			n.Add(1)
		}
		c.setWork(func(w *Work) { w.Seen, w.Resealed = w.Seen+1, int(n.Load()) })
		return nil
	})
	if err == nil {
		c.cfg.Log.Info("every record is sealed with the new key", "resealed", n.Load())
	}
	return err
}

func (c *Custodian) setWork(f func(*Work)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f(&c.work)
}

// each calls f with every key of the store, several at a time.
func (c *Custodian) each(ctx context.Context, f func(ctx context.Context, key string) error) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(atOnce)
	var listing error
	for key, err := range c.cfg.Raw.Keys(ctx, "") {
		if listing = err; err != nil || ctx.Err() != nil {
			break
		}
		g.Go(func() error { return f(ctx, key) })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return listing
}

// resealOne seals one record anew, and reports whether it changed.
func (c *Custodian) resealOne(ctx context.Context, key string) (changed bool, err error) {
	for {
		val, rev, err := c.cfg.Raw.Get(ctx, key)
		if errors.Is(err, store.ErrNotExist) {
			return false, nil
		}
		if err != nil || c.cfg.Sealer.Current(val) {
			return false, err
		}
		plain, err := c.cfg.Sealer.Open(val, []byte(key))
		if err != nil {
			return false, err
		}
		if val, err = c.cfg.Sealer.Seal(plain, []byte(key)); err != nil {
			return false, err
		}
		if _, err = c.cfg.Raw.Swap(ctx, key, rev, val); !errors.Is(err, store.ErrConflict) {
			return err == nil, err
		}
	}
}

// prove opens every record with the primary key alone, and names those that do not open.
func (c *Custodian) prove(ctx context.Context) (records int, bad []string, err error) {
	var n atomic.Int64
	found := make(chan string, maxBad)
	err = c.each(ctx, func(ctx context.Context, key string) error {
		val, _, err := c.cfg.Raw.Get(ctx, key)
		if errors.Is(err, store.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		n.Add(1)
		if c.cfg.Sealer.Prove(val, []byte(key)) != nil {
			select {
			case found <- key:
			default:
			}
		}
		return nil
	})
	close(found)
	for key := range found {
		bad = append(bad, key)
	}
	return int(n.Load()), bad, err
}
