package guard

import (
	"context"
	"iter"
	"time"

	"github.com/lockstep-tls/lockstep/store"
)

// hooks is a store with something done around each call of another one. A hook that is nil does
// nothing. A guard implements hooks and nothing else, so it cannot forget a method.
type hooks struct {
	inner store.Store
	// read changes what was read of keys, in place.
	read func(keys []string, values []store.Value)
	// swap makes changes by do, which is Swap of the inner store for one change, and SwapAll for
	// those of a SwapAll. It returns an outcome for each.
	swap func(ctx context.Context, changes []store.Change, do swapper) []store.Outcome
	// saw is called with the error of each call of the inner store, nil included.
	saw func(error)
}

type swapper func([]store.Change) []store.Outcome

var _ store.Store = (*hooks)(nil)

// Get implements [store.Store].
func (h *hooks) Get(ctx context.Context, key string) ([]byte, store.Rev, error) {
	var one [1]store.Value
	v := &one[0]
	v.Val, v.Rev, v.Err = h.inner.Get(ctx, key)
	h.looked(v.Err)
	if h.read != nil {
		h.read([]string{key}, one[:])
	}
	return v.Val, v.Rev, v.Err
}

// GetAll implements [store.Store].
func (h *hooks) GetAll(ctx context.Context, keys []string) []store.Value {
	all := h.inner.GetAll(ctx, keys)
	for _, v := range all {
		h.looked(v.Err)
	}
	if h.read != nil {
		h.read(keys, all)
	}
	return all
}

// Swap implements [store.Store].
func (h *hooks) Swap(ctx context.Context, key string, old store.Rev, val []byte) (store.Rev, error) {
	single := func(changes []store.Change) []store.Outcome {
		out := make([]store.Outcome, len(changes))
		for i, c := range changes {
			out[i].Rev, out[i].Err = h.inner.Swap(ctx, c.Key, c.Old, c.Val)
			h.looked(out[i].Err)
		}
		return out
	}
	out := h.through(ctx, []store.Change{{Key: key, Old: old, Val: val}}, single)
	return out[0].Rev, out[0].Err
}

// SwapAll implements [store.Store].
func (h *hooks) SwapAll(ctx context.Context, changes []store.Change) []store.Outcome {
	return h.through(ctx, changes, func(changes []store.Change) []store.Outcome {
		out := h.inner.SwapAll(ctx, changes)
		for _, o := range out {
			h.looked(o.Err)
		}
		return out
	})
}

func (h *hooks) through(ctx context.Context, changes []store.Change, do swapper) []store.Outcome {
	if h.swap == nil {
		return do(changes)
	}
	return h.swap(ctx, changes, do)
}

// Changed implements [store.Store].
func (h *hooks) Changed(ctx context.Context, prefix string, since store.Rev) ([]string, store.Rev, error) {
	keys, head, err := h.inner.Changed(ctx, prefix, since)
	h.looked(err)
	return keys, head, err
}

// Keys implements [store.Store].
func (h *hooks) Keys(ctx context.Context, prefix string) iter.Seq2[string, error] {
	return h.each(h.inner.Keys(ctx, prefix))
}

// KeysAfter implements [store.Store].
func (h *hooks) KeysAfter(ctx context.Context, prefix, last string) iter.Seq2[string, error] {
	return h.each(h.inner.KeysAfter(ctx, prefix, last))
}

func (h *hooks) each(keys iter.Seq2[string, error]) iter.Seq2[string, error] {
	if h.saw == nil {
		return keys
	}
	return func(yield func(string, error) bool) {
		for key, err := range keys {
			h.saw(err)
			if !yield(key, err) {
				return
			}
		}
	}
}

// Now implements [store.Store].
func (h *hooks) Now(ctx context.Context) (time.Time, error) {
	now, err := h.inner.Now(ctx)
	h.looked(err)
	return now, err
}

// Recreate implements [store.Store].
func (h *hooks) Recreate(ctx context.Context) error { return h.inner.Recreate(ctx) }

func (h *hooks) looked(err error) {
	if h.saw != nil {
		h.saw(err)
	}
}

// only makes those changes that refuse has no error for, and returns the outcomes of all.
func only(changes []store.Change, refuse func(*store.Change) error, do swapper) []store.Outcome {
	out := make([]store.Outcome, len(changes))
	var rest []store.Change
	var at []int // where their outcomes belong
	for i, c := range changes {
		if out[i].Err = refuse(&c); out[i].Err == nil {
			rest, at = append(rest, c), append(at, i)
		}
	}
	if len(rest) == 0 {
		return out
	}
	for i, o := range do(rest) {
		out[at[i]] = o
	}
	return out
}
