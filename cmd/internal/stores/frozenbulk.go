package stores

import (
	"context"
	"fmt"
	"iter"

	"github.com/lockstep-tls/lockstep/store"
)

var _ store.Bulk = (*Freezable)(nil)

// GetAll implements [store.Bulk].
func (f *Freezable) GetAll(ctx context.Context, keys []string) []store.Value {
	return store.GetAll(ctx, f.Store, keys)
}

// SwapAll implements [store.Bulk]: in a store that is frozen, the changes that do not pass are refused as by Swap.
func (f *Freezable) SwapAll(ctx context.Context, changes []store.Change) []store.Outcome {
	out := make([]store.Outcome, len(changes))
	n, frozen, err := f.Frozen(ctx)
	var rest []store.Change
	var at []int // where their outcomes belong
	for i, c := range changes {
		switch {
		case passes(c.Key) || err == nil && !frozen:
			rest, at = append(rest, c), append(at, i)
		case err != nil:
			out[i].Err = fmt.Errorf("store: %s was not written: %w", c.Key, err)
		default:
			out[i].Err = fmt.Errorf("store: %s was not written: %w %s", c.Key, ErrFrozen, n)
		}
	}
	if len(rest) == 0 {
		return out
	}
	for i, o := range store.SwapAll(ctx, f.Store, rest) {
		out[at[i]] = o
	}
	n, frozen, err = f.Frozen(ctx)
	for i, c := range rest {
		if doubt := overtaken(c.Key, n, frozen, err); doubt != nil && out[at[i]].Err == nil {
			out[at[i]] = store.Outcome{Err: doubt}
		}
	}
	return out
}

// KeysAfter implements [store.Bulk].
func (f *Freezable) KeysAfter(ctx context.Context, prefix, last string) iter.Seq2[string, error] {
	return store.KeysAfter(ctx, f.Store, prefix, last)
}
