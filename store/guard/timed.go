package guard

import (
	"context"
	"iter"
	"time"

	"github.com/lockstep-tls/lockstep/store"
)

// Timed is a store that reports how long each call took.
type Timed struct {
	inner store.Store
	took  func(op string, d time.Duration)
}

// Ops are the kinds of call that a [Timed] reports.
var Ops = []string{"get", "get-all", "swap", "swap-all", "changed", "keys", "now", "recreate"}

var _ store.Store = (*Timed)(nil)

// NewTimed returns a store that calls took with the kind of each call of inner, one of [Ops], and
// with how long inner took. It calls it synchronously, also for calls that failed.
func NewTimed(inner store.Store, took func(op string, d time.Duration)) *Timed {
	return &Timed{inner: inner, took: took}
}

// Get implements [store.Store].
func (t *Timed) Get(ctx context.Context, key string) ([]byte, store.Rev, error) {
	defer t.since("get", time.Now())
	return t.inner.Get(ctx, key)
}

// GetAll implements [store.Store].
func (t *Timed) GetAll(ctx context.Context, keys []string) []store.Value {
	defer t.since("get-all", time.Now())
	return t.inner.GetAll(ctx, keys)
}

// Swap implements [store.Store].
func (t *Timed) Swap(ctx context.Context, key string, old store.Rev, val []byte) (store.Rev, error) {
	defer t.since("swap", time.Now())
	return t.inner.Swap(ctx, key, old, val)
}

// SwapAll implements [store.Store].
func (t *Timed) SwapAll(ctx context.Context, changes []store.Change) []store.Outcome {
	defer t.since("swap-all", time.Now())
	return t.inner.SwapAll(ctx, changes)
}

// Changed implements [store.Store].
func (t *Timed) Changed(ctx context.Context, prefix string, since store.Rev) ([]string, store.Rev, error) {
	defer t.since("changed", time.Now())
	return t.inner.Changed(ctx, prefix, since)
}

// Keys implements [store.Store].
func (t *Timed) Keys(ctx context.Context, prefix string) iter.Seq2[string, error] {
	return t.timed(t.inner.Keys(ctx, prefix))
}

// KeysAfter implements [store.Store].
func (t *Timed) KeysAfter(ctx context.Context, prefix, last string) iter.Seq2[string, error] {
	return t.timed(t.inner.KeysAfter(ctx, prefix, last))
}

// Now implements [store.Store].
func (t *Timed) Now(ctx context.Context) (time.Time, error) {
	defer t.since("now", time.Now())
	return t.inner.Now(ctx)
}

// Recreate implements [store.Store].
func (t *Timed) Recreate(ctx context.Context) error {
	defer t.since("recreate", time.Now())
	return t.inner.Recreate(ctx)
}

func (t *Timed) since(op string, start time.Time) { t.took(op, time.Since(start)) }

// timed reports how long keys took, without the time in which its caller handled them.
func (t *Timed) timed(keys iter.Seq2[string, error]) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		start, elsewhere := time.Now(), time.Duration(0)
		defer func() { t.took("keys", time.Since(start)-elsewhere) }()
		keys(func(key string, err error) bool {
			left := time.Now()
			more := yield(key, err)
			elsewhere += time.Since(left)
			return more
		})
	}
}
