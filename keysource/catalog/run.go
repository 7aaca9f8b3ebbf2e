package catalog

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/store"
)

// Wake has Run look for changes now: somebody says that there are some. It never blocks.
func (c *Catalog) Wake() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// nothing is a prefix that no key has: a look there says only how far the store is. What was stored before costs nothing until somebody asks.
var nothing = prefix + " "

// Ready is closed once changes are followed: what is read from now on, Changed will be called for when it becomes old.
func (c *Catalog) Ready() <-chan struct{} { return c.ready }

// Run looks for changes each Refresh, and when woken, until ctx ends; then it returns nil. While the store cannot be read it goes on trying.
// To be called once.
func (c *Catalog) Run(ctx context.Context) error {
	var since store.Rev
	var learning sync.WaitGroup
	defer learning.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	down, where := false, nothing
	for {
		keys, head, err := c.store.Changed(ctx, where, since)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil && !down:
			c.log.Error("cannot look for changed certificates; trying again", "every", c.refresh, "error", err)
		case err == nil && down:
			c.log.Info("the store can be read for changed certificates again")
		}
		if errors.Is(err, store.ErrLost) {
			c.known.lost()
		}
		if down = err != nil; !down {
			since = head
			c.tell(ctx, keys)
			if where == nothing {
				where = prefix
				close(c.ready)
			}
		}
		timer := time.NewTimer(c.refresh)
		select {
		case <-ctx.Done():
		case <-c.wake:
		case <-c.known.learn:
			c.known.begin()
			learning.Go(func() {
				if err := c.known.read(ctx, c.store); err != nil && ctx.Err() == nil {
					c.log.Warn("the names in the store cannot be listed; each unknown name costs a read until they can", "error", err)
				}
			})
		case <-timer.C:
		}
		timer.Stop()
	}
}

func (c *Catalog) tell(ctx context.Context, keys []string) {
	names := make([]keysource.Name, 0, len(keys))
	for _, key := range keys {
		name, err := store.Segment(key)
		if err != nil {
			c.log.Error("a key of the store is not the name of a certificate", "key", key, "error", err)
			continue
		}
		names = append(names, keysource.Name(name))
	}
	c.known.changed(names)
	if len(names) > 0 {
		c.changed(names)
		c.recheck(ctx, names)
	}
}
