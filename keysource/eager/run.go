package eager

import (
	"context"
	"time"
)

// Wake has Run look at the pins now, since somebody says that they have changed. It never blocks.
func (e *Eager) Wake() {
	select {
	case e.wake <- struct{}{}:
	default:
	}
}

// Run looks for changes at each Refresh, and when it is woken, until ctx ends. Then it returns
// nil. While the store cannot be read, eager hosts stay eager. It must be called only once.
func (e *Eager) Run(ctx context.Context) error {
	tick := time.NewTicker(e.cfg.Refresh)
	defer tick.Stop()
	down := false
	for {
		err := e.look(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil && !down:
			e.cfg.Log.Error("cannot look for eager hosts; those known stay so, trying again", "every", e.cfg.Refresh,
				"err", err)
		case err == nil && down:
			e.cfg.Log.Info("eager hosts can be looked for again")
		}
		if down = err != nil; !down {
			e.announce()
		}
		select {
		case <-ctx.Done():
			return nil
		case <-e.wake:
		case <-tick.C:
		}
	}
}

// look reads the pins and the matched certificates.
func (e *Eager) look(ctx context.Context) error {
	if err := e.readPins(ctx); err != nil {
		return err
	}
	if err := e.readMatches(ctx); err != nil {
		return err
	}
	e.mu.Lock()
	e.ready = true
	e.mu.Unlock()
	return nil
}
