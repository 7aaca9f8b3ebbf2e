package redis

import (
	"context"
	"fmt"
	"iter"

	"github.com/lockstep-tls/lockstep/store"
)

var _ store.Store = (*Store)(nil)

// GetAll implements [store.Store]: all that is read is of one moment.
func (s *Store) GetAll(ctx context.Context, keys []string) []store.Value {
	out := make([]store.Value, len(keys))
	if len(keys) == 0 {
		return out
	}
	args := make([]any, len(keys))
	for i, key := range keys {
		args[i] = key
	}
	r, err := s.read(ctx, getAllScript, keys, args...)
	for i, key := range keys {
		switch {
		case err != nil:
			out[i].Err = err
		case 2*i+1 >= len(r.rest) || r.rest[2*i+1] == nil:
			out[i].Err = fmt.Errorf("%w: %s", store.ErrNotExist, key)
		case r.rest[2*i] == int64(-1):
			out[i].Err = s.noRevision(key)
		default:
			val, _ := r.string(2*i + 1)
			out[i] = store.Value{Val: []byte(val), Rev: store.Rev(r.number(2 * i))}
		}
	}
	return out
}

// SwapAll implements [store.Store]: one script, and one wait for a replica.
func (s *Store) SwapAll(ctx context.Context, changes []store.Change) []store.Outcome {
	out := make([]store.Outcome, len(changes))
	if len(changes) == 0 {
		return out
	}
	keys, args := make([]string, len(changes)), []any{s.past.floor()}
	for i, c := range changes {
		has := 0
		if c.Val != nil {
			has = 1
		}
		keys[i], args = c.Key, append(args, c.Key, uint64(c.Old), has, c.Val)
	}
	r, err := s.write(ctx, refused, swapAllScript, keys, args...)
	revs, _ := r.at(2).([]any)
	if err == nil && len(revs) != len(changes) {
		err = fmt.Errorf("%w: an answer about %d changes of %d", errUnknown, len(revs), len(changes))
	}
	for i, c := range changes {
		switch {
		case err != nil:
			out[i].Err = fmt.Errorf("%w (writing %s)", err, c.Key)
		case revs[i] == int64(0):
			out[i].Err = fmt.Errorf("%w: %s is not at revision %d", store.ErrConflict, c.Key, c.Old)
		default:
			rev, _ := revs[i].(int64)
			out[i].Rev = store.Rev(rev)
		}
	}
	return out
}

// KeysAfter implements [store.Store].
func (s *Store) KeysAfter(ctx context.Context, prefix, last string) iter.Seq2[string, error] {
	if last < prefix {
		return s.Keys(ctx, prefix)
	}
	return s.keys(ctx, prefix, "("+last)
}
