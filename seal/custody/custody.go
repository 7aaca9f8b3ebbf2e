// Package custody keeps a store's seal: a canary that tells a wrong sealing key before anything is served, and the change of the key without
// a stop.
//
// A change is like that of a ticket key: the new key is staged, so that every replica can open what it seals; once all report that they hold it, it
// seals; every record is sealed anew in the background; and when a full scan has proved that it alone opens them all, the old ones may go. All of it
// follows from the keyset and the records, so that whatever a restart interrupts is taken up again.
//
// It owns the keys "seal/canary", "seal/done", "seal/ask" and "seal/replica/<name>".
package custody

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/lockstep-tls/lockstep/seal"
	"github.com/lockstep-tls/lockstep/store"
)

// Config of a [Custodian]. Every field is needed.
type Config struct {
	Store   store.Store // Raw, sealed with Sealer
	Raw     store.Store
	Sealer  *seal.Sealer
	Replica string        // names this replica's report; the same after a restart
	Refresh time.Duration // how often the source of the key is read again
	Log     *slog.Logger
}

// Custodian looks after the seal of a store for one replica. All methods are safe for concurrent use.
type Custodian struct {
	Config
	wake chan struct{} // capacity 1
	turn chan struct{} // capacity 1: one at a time writes records anew, or changes the keyset

	// Run's, with turn:
	said    string     // what the last report said
	saidAt  time.Time  // and when
	saidIn  time.Time  // and when by the store's clock
	next    time.Time  // when the canary is opened next
	primary seal.KeyID // the key that sealed all that this replica may still be writing
	turning seal.KeyID // the one that seals
	turned  time.Time  // since when

	mu       sync.Mutex
	finished seal.KeyID // every record was sealed with this one
	err      error      // of the last look
	canary   error      // of the last opening
	work     Work
	waits    []string // replicas that lack the staged key, or may still write with an old one
	unread   map[string]unread
}

// Work is how far the records are sealed with the present key.
type Work struct {
	Underway bool
	Records  int // in the store when it began
	Seen     int
	Resealed int
	Bad      []string // that no key opens; some
}

const (
	daily       = 24 * time.Hour
	reportEvery = 10 * time.Minute
	inFlight    = 6 * time.Second // a write that was sealed longer ago has arrived, or failed: drivers try for 5 s
	silentFor   = 3 * reportEvery // a replica whose report is older is gone
)

// New returns a custodian of a store that was entered ([Enter]); see [Custodian.Run].
func New(c Config) *Custodian {
	primary := c.Sealer.State().Primary
	return &Custodian{
		Config: c, wake: make(chan struct{}, 1), turn: make(chan struct{}, 1), next: time.Now().Add(daily), primary: primary, turning: primary,
	}
}

// Run watches the source of the key and carries a change of it on, until ctx ends.
func (c *Custodian) Run(ctx context.Context) error {
	tick := time.NewTicker(c.Refresh)
	defer tick.Stop()
	for {
		err := c.look(ctx)
		if ctx.Err() != nil {
			c.leave()
			return nil
		}
		c.note(err)
		select {
		case <-ctx.Done():
			c.leave()
			return nil
		case <-c.wake:
		case <-tick.C:
		}
	}
}

func (c *Custodian) poke() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// note keeps the outcome of a look, and tells when it is another than before.
func (c *Custodian) note(err error) {
	c.mu.Lock()
	before := c.err
	c.err = err
	c.mu.Unlock()
	switch {
	case err != nil && (before == nil || before.Error() != err.Error()):
		c.Log.Error("the sealing key: the last good keyset stays in use", "source", c.Sealer.Source(), "err", err)
	case err == nil && before != nil:
		c.Log.Info("the sealing key is well again", "source", c.Sealer.Source())
	}
}

// look does what is due.
func (c *Custodian) look(ctx context.Context) error {
	select {
	case c.turn <- struct{}{}:
		defer func() { <-c.turn }()
	case <-ctx.Done():
		return ctx.Err()
	}
	changed, err := c.Sealer.Reload(ctx)
	if changed {
		c.Log.Info("another keyset was read", "source", c.Sealer.Source(), "primary", c.Sealer.State().Primary.String())
	}
	return errors.Join(err, c.check(ctx), c.carryOn(ctx))
}

// check opens the canary once a day.
func (c *Custodian) check(ctx context.Context) error {
	if time.Now().Before(c.next) {
		return nil
	}
	err := Prove(ctx, c.Store, c.Raw, c.Sealer)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	c.next = time.Now().Add(daily)
	if err != nil { // a repair shows soon
		c.next = time.Now().Add(time.Minute)
	}
	c.mu.Lock()
	c.canary = err
	c.mu.Unlock()
	if err != nil {
		c.Log.Error("the canary of the sealing key does not open", "source", c.Sealer.Source(), "err", err)
	}
	return nil
}

// carryOn takes a change of the key as far as it can go now.
func (c *Custodian) carryOn(ctx context.Context) error {
	if err := c.report(ctx); err != nil {
		return err
	}
	if st := c.Sealer.State(); len(st.Staged) > 0 {
		id := st.Staged[len(st.Staged)-1]
		lacking, err := c.lacking(ctx, id)
		c.mu.Lock()
		c.waits = lacking
		c.mu.Unlock()
		if err != nil {
			return err
		}
		if len(lacking) == 0 {
			if st, err = c.Sealer.Promote(ctx, id); err != nil {
				return err
			}
			c.Log.Info("a new sealing key seals from now on", "key", st.Primary.String())
			if err := c.report(ctx); err != nil {
				return err
			}
		}
	}
	if st := c.Sealer.State(); len(st.Old) > 0 {
		return c.finish(ctx, st.Primary)
	}
	return nil
}
