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

// Config is what a [Custodian] needs. Every field is required.
type Config struct {
	Store   store.Store // Raw, sealed with Sealer
	Raw     store.Store
	Sealer  *seal.Sealer
	Replica string        // names the report of this replica; the same after a restart
	Refresh time.Duration // how often the source of the key is read again
	Log     *slog.Logger
	// Commands are what an operator types. Errors name them.
	Commands Commands
}

// Commands are what an operator types. Errors name them.
type Commands struct {
	Status string // Status shows how the seal stands.
	Retire string // Retire drops the old keys from a copy of the keyset.
}

// Custodian looks after the seal of a store for one replica. All methods are safe for concurrent
// use.
type Custodian struct {
	cfg  Config
	wake chan struct{} // capacity 1
	// turn has capacity 1: one holder at a time writes records anew, or changes the keyset.
	turn chan struct{}

	// Run owns these, while it holds turn.
	reported   string    // the content of the last report
	reportedAt time.Time // when it was written
	reportedIn time.Time // when it was written, by the store's clock
	next       time.Time // when the canary is opened next
	// primary is the key that sealed all that this replica may still be writing.
	primary     seal.KeyID
	nextPrimary seal.KeyID // the key that seals
	changedAt   time.Time  // since when it seals

	mu       sync.Mutex
	finished seal.KeyID // the key with which every record was sealed
	err      error      // the error of the last look
	canary   error      // the error of the last opening
	work     Work
	// waits names the replicas that lack the staged key, or may still write with an old one.
	waits  []string
	unread map[string]unread
}

// Work is how many records are sealed with the present key.
type Work struct {
	Underway bool
	Records  int // in the store when it began
	Seen     int
	Resealed int
	Bad      []string // some of the records that no key opens
}

const (
	daily       = 24 * time.Hour
	reportEvery = 10 * time.Minute
	// inFlight is how long after it was sealed a write has arrived or failed. Drivers try for 5 s.
	inFlight  = 6 * time.Second
	silentFor = 3 * reportEvery // a replica whose report is older is gone
)

// New returns a custodian of a store for which [Enter] was called. See [Custodian.Run].
func New(c Config) *Custodian {
	primary := c.Sealer.State().Primary
	return &Custodian{
		cfg: c, wake: make(chan struct{}, 1), turn: make(chan struct{}, 1), next: time.Now().Add(daily),
		primary: primary, nextPrimary: primary,
	}
}

// Run watches the source of the key, and continues a change of it, until ctx ends.
func (c *Custodian) Run(ctx context.Context) error {
	tick := time.NewTicker(c.cfg.Refresh)
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

func (c *Custodian) signal() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// note keeps the outcome of a look, and logs when it is another than before.
func (c *Custodian) note(err error) {
	c.mu.Lock()
	before := c.err
	c.err = err
	c.mu.Unlock()
	switch {
	case err != nil && (before == nil || before.Error() != err.Error()):
		c.cfg.Log.Error("the sealing key: the last good keyset stays in use",
			"source", c.cfg.Sealer.Source(), "err", err)
	case err == nil && before != nil:
		c.cfg.Log.Info("the sealing key is well again", "source", c.cfg.Sealer.Source())
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
	changed, err := c.cfg.Sealer.Reload(ctx)
	if changed {
		c.cfg.Log.Info("another keyset was read", "source", c.cfg.Sealer.Source(), "primary",
			c.cfg.Sealer.State().Primary.String())
	}
	return errors.Join(err, c.check(ctx), c.advance(ctx))
}

// check opens the canary once a day.
func (c *Custodian) check(ctx context.Context) error {
	if time.Now().Before(c.next) {
		return nil
	}
	err := Prove(ctx, c.cfg.Store, c.cfg.Raw, c.cfg.Sealer)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	c.next = time.Now().Add(daily)
	if err != nil { // so that a repair shows soon
		c.next = time.Now().Add(time.Minute)
	}
	c.mu.Lock()
	c.canary = err
	c.mu.Unlock()
	if err != nil {
		c.cfg.Log.Error("the canary of the sealing key does not open", "source", c.cfg.Sealer.Source(), "err", err)
	}
	return nil
}

// advance continues a change of the key as far as it can go now.
func (c *Custodian) advance(ctx context.Context) error {
	if err := c.report(ctx); err != nil {
		return err
	}
	if st := c.cfg.Sealer.State(); len(st.Staged) > 0 {
		id := st.Staged[len(st.Staged)-1]
		lacking, err := c.lacking(ctx, id)
		c.mu.Lock()
		c.waits = lacking
		c.mu.Unlock()
		if err != nil {
			return err
		}
		if len(lacking) == 0 {
			if st, err = c.cfg.Sealer.Promote(ctx, id); err != nil {
				return err
			}
			c.cfg.Log.Info("a new sealing key seals from now on", "key", st.Primary.String())
			if err := c.report(ctx); err != nil {
				return err
			}
		}
	}
	if st := c.cfg.Sealer.State(); len(st.Old) > 0 {
		return c.finish(ctx, st.Primary)
	}
	return nil
}
