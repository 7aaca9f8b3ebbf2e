package daemon

import (
	"context"
	"iter"

	"github.com/lockstep-tls/lockstep/store"
)

var _ store.Bulk = (*losses)(nil)

func (l *losses) GetAll(ctx context.Context, keys []string) []store.Value {
	all := store.GetAll(ctx, l.Store, keys)
	for _, v := range all {
		l.look(v.Err)
	}
	return all
}

func (l *losses) SwapAll(ctx context.Context, changes []store.Change) []store.Outcome {
	all := store.SwapAll(ctx, l.Store, changes)
	for _, o := range all {
		l.look(o.Err)
	}
	return all
}

func (l *losses) KeysAfter(ctx context.Context, prefix, last string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		for key, err := range store.KeysAfter(ctx, l.Store, prefix, last) {
			if !yield(key, l.look(err)) {
				return
			}
		}
	}
}
