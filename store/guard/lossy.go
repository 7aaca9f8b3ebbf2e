package guard

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/lockstep-tls/lockstep/store"
)

// Lossy is a store that may be emptied under the process (FLUSHALL, a stream deleted), or while
// nobody looked. That must not empty the fleet. The first replica that notices makes the store
// usable again and leaves a record. Every replica writes back what it serves. While the record
// stands, a record that is missing is not known to be missing.
type Lossy struct {
	hooks
	refill func(context.Context) error
	log    *slog.Logger

	wake    chan struct{} // capacity 1: there is something to repair
	filling atomic.Bool   // from when the loss was noticed until all is written back
	known   atomic.Uint64 // revision of the record for which that was done, or is being done
}

// NewLossy returns inner with an eye on losses. Run calls refill, again and again until it
// succeeds, to write back what this process serves. Before Run nothing is repaired.
func NewLossy(inner store.Store, refill func(context.Context) error, log *slog.Logger) *Lossy {
	l := &Lossy{refill: refill, log: log, wake: make(chan struct{}, 1)}
	l.hooks = hooks{inner: inner, saw: l.look}
	return l
}

// lostKey is there from when the store was found empty until that is given up ([ForgetLoss]).
var lostKey = store.Conditions.Key("lost")

// Loss says when a store was found empty.
type Loss struct {
	At time.Time `json:"at"` // zero: the record of it cannot be read
	By string    `json:"by"`
}

const (
	repairWithin = 30 * time.Second // one try
	repairAgain  = time.Second      // between two tries
)

func (l *Lossy) look(err error) {
	if errors.Is(err, store.ErrLost) {
		l.notice()
	}
}

func (l *Lossy) notice() {
	if l.filling.CompareAndSwap(false, true) {
		l.log.Error("the store has lost its content; what is published goes on being served and is written back")
		l.wake <- struct{}{} // has room: nobody else sets filling before the repair is over
	}
}

// Run repairs until ctx ends. It tries until all is written back, since nobody else says that the
// store was lost once it is usable again.
func (l *Lossy) Run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-l.wake:
		}
		for err := l.repair(ctx); err != nil; err = l.repair(ctx) {
			l.log.Error("what the store had lost is not written back yet; trying again", "err", err)
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(repairAgain):
			}
		}
		l.filling.Store(false)
	}
}

func (l *Lossy) repair(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, repairWithin)
	defer cancel()
	if err := l.inner.Recreate(ctx); err != nil {
		return err
	}
	if _, err := l.mark(ctx); err != nil {
		return err
	}
	return l.refill(ctx)
}

// mark leaves the record, if no other replica did, and returns its revision.
func (l *Lossy) mark(ctx context.Context) (store.Rev, error) {
	_, rev, err := l.write(ctx)
	if err == nil {
		l.known.Store(uint64(rev))
	}
	return rev, err
}

// write returns when the loss was, by the record that is there. It writes the record if there is
// none, or if it cannot be read.
func (l *Lossy) write(ctx context.Context) (at time.Time, rev store.Rev, err error) {
	if at, err = l.inner.Now(ctx); err != nil {
		return at, 0, err
	}
	val, err := json.Marshal(Loss{At: at, By: "lockstepd"})
	if err != nil {
		return at, 0, err
	}
	rev, err = l.inner.Swap(ctx, lostKey, 0, val)
	if !errors.Is(err, store.ErrConflict) {
		return at, rev, err
	}
	r, rev, failed := lost(ctx, l.inner)
	switch {
	case failed != nil:
		return at, 0, failed
	case r == nil: // it was given up this moment
		return at, 0, err
	case !r.At.IsZero():
		return r.At, rev, nil
	}
	rev, err = l.inner.Swap(ctx, lostKey, rev, val)
	return at, rev, err
}

// Found says that records are missing which this process knows of. It leaves the record of a
// loss. If that is a new one, Run writes back what this process serves.
func (l *Lossy) Found(ctx context.Context) error {
	before := l.known.Load()
	rev, err := l.mark(ctx)
	if err == nil && uint64(rev) != before {
		l.notice()
	}
	l.look(err)
	return err
}

// Since returns when the store was found empty. It is zero if the store has lost nothing, or if
// that was given up. If the record does not say when, it is now, and that is written down.
func (l *Lossy) Since(ctx context.Context) (time.Time, error) {
	r, err := l.Stands(ctx)
	if err != nil || r == nil {
		return time.Time{}, err
	}
	if r.At.IsZero() {
		// write and not mark, since Found must notice that there is something to write back
		at, _, err := l.write(ctx)
		l.look(err)
		return at, err
	}
	return r.At, nil
}

// Filling reports whether a loss was noticed here and not all is written back yet.
func (l *Lossy) Filling() bool { return l.filling.Load() }

// Stands returns the loss that is on record. It is nil if the store has lost nothing, or if that
// was given up.
func (l *Lossy) Stands(ctx context.Context) (*Loss, error) {
	r, _, err := lost(ctx, l)
	return r, err
}

// lost reads the record. The time of one that cannot be read is zero, and its revision right.
func lost(ctx context.Context, s store.Store) (*Loss, store.Rev, error) {
	val, rev, err := s.Get(ctx, lostKey)
	if errors.Is(err, store.ErrNotExist) {
		return nil, 0, nil
	}
	if err != nil && !errors.Is(err, store.ErrSealed) {
		return nil, 0, err
	}
	r := new(Loss)
	if err != nil || json.Unmarshal(val, r) != nil {
		r = new(Loss)
	}
	return r, rev, nil
}

// Lost reports that the store has lost something that was not given up.
func Lost(ctx context.Context, s store.Store) (bool, error) {
	r, _, err := lost(ctx, s)
	return r != nil, err
}

// ForgetLoss gives up what the store lost and nobody wrote back.
func ForgetLoss(ctx context.Context, s store.Store) error {
	r, rev, err := lost(ctx, s)
	if err != nil || r == nil {
		return err
	}
	_, err = s.Swap(ctx, lostKey, rev, nil)
	return err
}
