package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"slices"
	"sync"
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
	log      *slog.Logger

	mu    sync.Mutex
	begun bool                      // somebody is at it
	after func(ctx context.Context) // writes back
}

var lostKey = store.Key("store", "lost")

// lostRecord says when a store was found empty.
type lostRecord struct {
	At time.Time `json:"at"`
	By string    `json:"by"`
}

// repairWithin bounds one try; the next failing call begins another.
const repairWithin = 30 * time.Second

func (l *losses) look(err error) error {
	if !errors.Is(err, store.ErrLost) {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.begun {
		l.begun = true
		go l.repair()
	}
	return err
}

func (l *losses) repair() {
	defer func() {
		l.mu.Lock()
		l.begun = false
		l.mu.Unlock()
	}()
	ctx, cancel := context.WithTimeout(context.Background(), repairWithin)
	defer cancel()
	l.log.Error("the store has lost its content; what is published goes on being served and is written back")
	err := l.recreate(ctx)
	if err == nil {
		err = l.mark(ctx)
	}
	if err != nil {
		l.log.Error("the store cannot be made usable again yet", "err", err)
		return
	}
	l.after(ctx)
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
	store store.Store
}

// Certificate implements [keysource.Source].
func (d doubtful) Certificate(ctx context.Context, n keysource.Name) (keysource.Certificate, error) {
	c, err := d.Source.Certificate(ctx, n)
	if !errors.Is(err, keysource.ErrNotExist) {
		return c, err
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
func (d *Daemon) writeBack(ctx context.Context) {
	n := 0
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
			d.log.Error("a certificate that is being served cannot be written back", "name", name, "err", err)
			continue
		}
		n++
	}
	d.log.Info("what the store had lost was written back", "certificates", n)
	for _, scope := range d.rolls.Scopes() {
		d.rolls.Poke(scope)
	}
}
