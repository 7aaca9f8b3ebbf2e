package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/store"
)

// losses is a store that may be emptied under us (FLUSHALL, a stream deleted), or while nobody looked. That must not empty the fleet. The first
// replica that notices makes it usable again and leaves a record; every one of them writes back what it serves: rings by their generation (rotation),
// certificates here. While the record stands, a certificate that is missing is not known to be missing: nobody is told that it is absent.
type losses struct {
	store.Store
	recreate func(context.Context) error
	after    func(context.Context) error // writes back
	log      *slog.Logger

	wake    chan struct{} // capacity 1: there is something to repair
	pending atomic.Bool   // from when the loss was noticed until all is written back; nothing is called absent meanwhile
	known   atomic.Uint64 // the revision of the record for which that was done, or is being done
}

// newLosses repairs nothing before run.
func newLosses(s store.Store, recreate, after func(context.Context) error, log *slog.Logger) *losses {
	return &losses{Store: s, recreate: recreate, after: after, log: log, wake: make(chan struct{}, 1)}
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
	lookAtLoss   = time.Second // for a status
)

func (l *losses) look(err error) error {
	if errors.Is(err, store.ErrLost) {
		l.notice()
	}
	return err
}

func (l *losses) notice() {
	if l.pending.CompareAndSwap(false, true) {
		l.log.Error("the store has lost its content; what is published goes on being served and is written back")
		l.wake <- struct{}{} // has room: who made it pending is the only one, until it is done
	}
}

// run repairs until ctx ends. It tries until all is written back: once the store is usable again nobody else says that it was lost.
func (l *losses) run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-l.wake:
		}
		for err := l.try(ctx); err != nil; err = l.try(ctx) {
			l.log.Error("what the store had lost is not written back yet; trying again", "err", err)
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(repairAgain):
			}
		}
		l.pending.Store(false)
	}
}

func (l *losses) try(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, repairWithin)
	defer cancel()
	if err := l.recreate(ctx); err != nil {
		return err
	}
	if _, err := l.mark(ctx); err != nil {
		return err
	}
	return l.after(ctx)
}

// mark leaves the record, if no other replica did, and returns its revision.
func (l *losses) mark(ctx context.Context) (store.Rev, error) {
	_, rev, err := l.write(ctx)
	if err == nil {
		l.known.Store(uint64(rev))
	}
	return rev, err
}

// write returns the record that is there, or else writes one: anew, too, where what is there cannot be read.
func (l *losses) write(ctx context.Context) (at time.Time, rev store.Rev, err error) {
	if at, err = l.Store.Now(ctx); err != nil {
		return at, 0, err
	}
	val, err := json.Marshal(lostRecord{At: at, By: "lockstepd"})
	if err != nil {
		return at, 0, err
	}
	rev, err = l.Store.Swap(ctx, lostKey, 0, val)
	if !errors.Is(err, store.ErrConflict) {
		return at, rev, err
	}
	r, rev, failed := lost(ctx, l.Store)
	switch {
	case failed != nil:
		return at, 0, failed
	case r == nil: // it was given up this moment
		return at, 0, err
	case !r.At.IsZero():
		return r.At, rev, nil
	}
	rev, err = l.Store.Swap(ctx, lostKey, rev, val)
	return at, rev, err
}

// Found implements [fleet.Loss].
func (l *losses) Found(ctx context.Context) error {
	before := l.known.Load()
	rev, err := l.mark(ctx)
	if err == nil && uint64(rev) != before {
		l.notice()
	}
	return l.look(err)
}

// Since implements [fleet.Loss]. Where the record does not say when, it is now, and that is written down.
func (l *losses) Since(ctx context.Context) (time.Time, error) {
	r, _, err := lost(ctx, l)
	if err != nil || r == nil {
		return time.Time{}, err
	}
	if r.At.IsZero() {
		at, _, err := l.write(ctx) // not mark: that this replica has something to write back is for Found to notice
		return at, l.look(err)
	}
	return r.At, nil
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

// lost returns the record; nil: the store has lost nothing, or was given up on. Of one that cannot be read the time is zero, and the revision right.
func lost(ctx context.Context, s store.Store) (*lostRecord, store.Rev, error) {
	val, rev, err := s.Get(ctx, lostKey)
	if errors.Is(err, store.ErrNotExist) {
		return nil, 0, nil
	}
	if err != nil && !errors.Is(err, store.ErrSealed) {
		return nil, 0, err
	}
	r := new(lostRecord)
	if err != nil || json.Unmarshal(val, r) != nil {
		r = new(lostRecord)
	}
	return r, rev, nil
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

// stands says that the store lost its content, and what to do, for as long as that is not settled; "" otherwise, and while the store cannot be read, which
// others say.
func (l *losses) stands(ctx context.Context) string {
	ctx, cancel := context.WithTimeout(ctx, lookAtLoss)
	defer cancel()
	at, err := l.Since(ctx)
	if err != nil || at.IsZero() {
		return ""
	}
	return fmt.Sprintf("the store lost its content at %s; what was being served is written back, and no other certificate is called absent: put what is missing again "+
		"(lockstep cert put, lockstep restore), then lockstep cert rm --confirm", at.UTC().Format(time.RFC3339))
}

// doubt says why a certificate that is missing is not certain to be missing: the store may have lost it.
func (l *losses) doubt(ctx context.Context, n keysource.Name) error {
	if l.pending.Load() {
		return fmt.Errorf("%s: the store has lost its content and is being filled again", n)
	}
	r, _, err := lost(ctx, l)
	if err != nil || r == nil {
		return err
	}
	when := "at " + r.At.UTC().Format(time.RFC3339)
	if r.At.IsZero() {
		when = "(when is not known: " + lostKey + " cannot be read)"
	}
	return fmt.Errorf("%s is not in the store, which lost its content %s: put it again, restore a backup, or give up what is missing (lockstep cert rm --confirm)", n, when)
}

// doubt is [losses.doubt]; nil: the store is nobody else's.
func (d *Daemon) doubt() func(context.Context, keysource.Name) error {
	if d.losses == nil {
		return nil
	}
	return d.losses.doubt
}
