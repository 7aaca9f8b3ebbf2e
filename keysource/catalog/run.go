package catalog

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/store"
)

// Wake has Run look for changes now, since somebody says that there are some. It never blocks.
func (c *Catalog) Wake() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// noKeys is a prefix that no key has. A look there only returns the store's current revision. What
// was stored before costs nothing until somebody asks for it.
var noKeys = prefix + " "

// Ready is closed once changes are followed. For what is read after that, Changed is called when
// it becomes old.
func (c *Catalog) Ready() <-chan struct{} { return c.ready }

// Run looks for changes at each Refresh, and when it is woken, until ctx ends. Then it returns
// nil. While the store cannot be read it goes on trying. It must be called only once.
func (c *Catalog) Run(ctx context.Context) error {
	var since, warnedSince store.Rev
	var learning sync.WaitGroup
	defer learning.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	down, where := false, noKeys
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
			c.known.forget()
			c.ends.forget()
			c.warned.forget()
		}
		if down = err != nil; !down {
			warnedSince = c.lookForWarnings(ctx, warnedSince)
			since = head
			c.report(ctx, keys)
			if where == noKeys {
				where = prefix
				close(c.ready)
				learning.Go(func() { c.followEnds(ctx) }) // changes are followed from here on
			}
		}
		timer := time.NewTimer(c.refresh)
		select {
		case <-ctx.Done():
		case <-c.wake:
		case <-c.known.learn:
			c.known.startLearning()
			learning.Go(func() {
				if err := c.known.learnFrom(ctx, c.store); err != nil && ctx.Err() == nil {
					c.log.Warn("the names in the store cannot be listed; "+
						"each unknown name costs a read until they can", "error", err)
				}
			})
		case <-timer.C:
		}
		timer.Stop()
	}
}

// report passes on the names of changed keys.
func (c *Catalog) report(ctx context.Context, keys []string) {
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
		c.recheckWarned(ctx, names)
		c.ends.note(names)
	}
}
