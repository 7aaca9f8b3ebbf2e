package redis

import (
	"context"
	"iter"
	"slices"

	"github.com/lockstep-tls/lockstep/store"
)

// How much is read in one request.
const (
	changesAtOnce = 1000
	namesAtOnce   = 500
)

// Changed implements [store.Store]. Without changes it costs one request, else one for each 1000.
// After a failover or a restart of Redis, and where since is a revision that Redis has lost, it
// names all keys once, with those that were deleted.
func (s *Store) Changed(ctx context.Context, prefix string, since store.Rev) ([]string, store.Rev, error) {
	from := uint64(since)
	for {
		keys, head, whole, err := s.changes(ctx, prefix, from)
		if err != nil {
			return nil, 0, err
		}
		if whole {
			return keys, head, nil
		}
		// What is given out from now on has to be above all that was.
		if _, err := s.read(ctx, raiseScript, nil, s.past.floor()); err != nil {
			return nil, 0, err
		}
		from = 0
	}
}

// changes reads what was written after from. whole is false if that may not be all, since Redis has
// another history than when from was read, or gets one meanwhile.
func (s *Store) changes(
	ctx context.Context, prefix string, from uint64,
) (keys []string, head store.Rev, whole bool, err error) {
	var history string
	for at, more := from, true; more; {
		r, err := s.read(ctx, changedScript, nil, at, prefix, changesAtOnce)
		if err != nil {
			return nil, 0, false, err
		}
		if history == "" {
			history = r.history
			if from > 0 && s.past.before(from, r.head) {
				return nil, 0, false, nil
			}
		}
		if r.history != history {
			return nil, 0, false, nil
		}
		keys = append(keys, r.strings(2)...)
		at, more, head = r.number(0), r.number(1) > 0, store.Rev(r.head)
	}
	slices.Sort(keys) // one that changed meanwhile was seen at both places
	return slices.Compact(keys), head, true, nil
}

// Keys implements [store.Store]. It reads 500 keys at a time. A key that comes or goes meanwhile
// may be seen or not.
func (s *Store) Keys(ctx context.Context, prefix string) iter.Seq2[string, error] {
	return s.keys(ctx, prefix, "["+prefix)
}

// keys begins at from, as ZRANGEBYLEX has it.
func (s *Store) keys(ctx context.Context, prefix, from string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		from, to := from, after(prefix)
		for {
			r, err := s.read(ctx, namesScript, nil, from, to, namesAtOnce)
			if err != nil {
				yield("", err)
				return
			}
			keys := r.strings(0)
			for _, key := range keys {
				if !yield(key, nil) {
					return
				}
			}
			if len(keys) < namesAtOnce {
				return
			}
			from = "(" + keys[len(keys)-1]
		}
	}
}

// after is the end of the range of all keys that begin with prefix, as ZRANGEBYLEX has it.
func after(prefix string) string {
	for end := []byte(prefix); len(end) > 0; end = end[:len(end)-1] {
		if last := &end[len(end)-1]; *last < 0xff {
			*last++
			return "(" + string(end)
		}
	}
	return "+"
}
