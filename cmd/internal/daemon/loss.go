package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/store"
)

// A store that was emptied under us (FLUSHALL, a stream deleted) must not empty the fleet. The first replica that notices makes it usable again and leaves
// a record; every one of them writes back what it serves: rings by their generation (rotation), certificates here. While the record stands, a
// certificate that is missing is not known to be missing: nobody is told that it is absent.
type losses struct {
	store.Store
	recreate func(context.Context) error
	after    func(context.Context) error // writes back
	log      *slog.Logger

	ctx   context.Context
	close context.CancelFunc

	pending atomic.Bool // from when the loss was noticed until all is written back; nothing is called absent meanwhile
}

func newLosses(s store.Store, recreate, after func(context.Context) error, log *slog.Logger) *losses {
	l := &losses{Store: s, recreate: recreate, after: after, log: log}
	l.ctx, l.close = context.WithCancel(context.Background())
	return l
}

var lostKey = store.Key("store", "lost")

// lostRecord says when a store was found empty.
type lostRecord struct {
	At time.Time `json:"at"`
	By string    `json:"by"`
}

// One try to repair, and the time between two.
const (
	repairWithin = 30 * time.Second
	repairAgain  = time.Second
)

func (l *losses) look(err error) error {
	if errors.Is(err, store.ErrLost) && l.pending.CompareAndSwap(false, true) {
		go l.repair()
	}
	return err
}

// repair tries until all is written back: once the store is usable again nobody else says that it was lost.
func (l *losses) repair() {
	l.log.Error("the store has lost its content; what is published goes on being served and is written back")
	for {
		err := l.try()
		if err == nil {
			l.pending.Store(false)
			return
		}
		l.log.Error("what the store had lost is not written back yet; trying again", "err", err)
		select {
		case <-l.ctx.Done():
			return
		case <-time.After(repairAgain):
		}
	}
}

func (l *losses) try() error {
	ctx, cancel := context.WithTimeout(l.ctx, repairWithin)
	defer cancel()
	if err := l.recreate(ctx); err != nil {
		return err
	}
	if err := l.mark(ctx); err != nil {
		return err
	}
	return l.after(ctx)
}

// mark leaves the record, if no other replica did.
func (l *losses) mark(ctx context.Context) error {
	now, err := l.Store.Now(ctx)
	if err != nil {
		return err
	}
	val, err := json.Marshal(lostRecord{At: now, By: "lockstepd"})
	if err != nil {
		return err
	}
	if _, err = l.Store.Swap(ctx, lostKey, 0, val); errors.Is(err, store.ErrConflict) {
		return nil
	}
	return err
}

func (l *losses) Get(ctx context.Context, key string) ([]byte, store.Rev, error) {
	val, rev, err := l.Store.Get(ctx, key)
	return val, rev, l.look(err)
}

func (l *losses) Swap(ctx context.Context, key string, old store.Rev, val []byte) (store.Rev, error) {
	rev, err := l.Store.Swap(ctx, key, old, val)
	return rev, l.look(err)
}

func (l *losses) Changed(ctx context.Context, prefix string, since store.Rev) ([]string, store.Rev, error) {
	keys, head, err := l.Store.Changed(ctx, prefix, since)
	return keys, head, l.look(err)
}

func (l *losses) Keys(ctx context.Context, prefix string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		for key, err := range l.Store.Keys(ctx, prefix) {
			if !yield(key, l.look(err)) {
				return
			}
		}
	}
}

func (l *losses) Now(ctx context.Context) (time.Time, error) {
	now, err := l.Store.Now(ctx)
	return now, l.look(err)
}

// lost returns the record; nil: the store has lost nothing, or was given up on.
func lost(ctx context.Context, s store.Store) (*lostRecord, store.Rev, error) {
	val, rev, err := s.Get(ctx, lostKey)
	if errors.Is(err, store.ErrNotExist) {
		return nil, 0, nil
	}
	if err != nil {
		return nil, 0, err
	}
	r := new(lostRecord)
	return r, rev, json.Unmarshal(val, r)
}

// forgetLoss gives up what the store lost and nobody wrote back.
func forgetLoss(ctx context.Context, s store.Store) error {
	r, rev, err := lost(ctx, s)
	if err != nil || r == nil {
		return err
	}
	_, err = s.Swap(ctx, lostKey, rev, nil)
	return err
}

// doubtful is a source of certificates whose store may have lost some.
type doubtful struct {
	keysource.Source
	store *losses
}

// Certificate implements [keysource.Source].
func (d doubtful) Certificate(ctx context.Context, n keysource.Name) (keysource.Certificate, error) {
	c, err := d.Source.Certificate(ctx, n)
	if !errors.Is(err, keysource.ErrNotExist) {
		return c, err
	}
	if d.store.pending.Load() {
		return c, fmt.Errorf("%s: the store has lost its content and is being filled again", n)
	}
	r, _, lostErr := lost(ctx, d.store)
	if lostErr != nil {
		return c, lostErr
	}
	if r != nil {
		return c, fmt.Errorf("%s is not in the store, which lost its content at %s: put it again, restore a backup, or give up what is missing (lockstep cert rm --confirm)",
			n, r.At.UTC().Format(time.RFC3339))
	}
	return c, err
}

// writeBack puts the certificates that are being sent into a store that has lost them.
func (d *Daemon) writeBack(ctx context.Context) error {
	n := 0
	var errs []error
	for _, h := range d.table.Held() {
		if d.dir != nil {
			if _, err := d.dir.Certificate(ctx, h.Name); err == nil {
				continue // it never came from the store
			}
		}
		name := h.Name
		held, err := keysource.ParseCertificate(h.Chain, h.Key, time.Time{})
		if err != nil {
			continue // it was checked when it was put
		}
		if w := name.Wildcard(); w != "" && !slices.Contains(held.Names, string(name)) {
			name = w
		}
		have, err := d.certs.Certificate(ctx, name)
		if err == nil && !have.NotBefore.Before(held.NotBefore) {
			continue
		}
		if _, err = d.certs.Put(ctx, name, h.Chain, h.Key); err != nil {
			errs = append(errs, err)
			continue
		}
		n++
	}
	for _, scope := range d.rolls.Scopes() {
		d.rolls.Poke(scope)
	}
	if len(errs) > 0 {
		return fmt.Errorf("%d certificates are still missing, the first: %w", len(errs), errs[0])
	}
	d.log.Info("what the store had lost was written back", "certificates", n)
	return nil
}
