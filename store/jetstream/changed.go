package jetstream

import (
	"cmp"
	"context"
	"fmt"
	"iter"
	"slices"
	"strings"

	"github.com/lockstep-tls/lockstep/store"
)

// Changed implements [store.Store]. A store where nothing was written since costs one request, one
// where other keys were, three.
func (s *Store) Changed(ctx context.Context, prefix string, since store.Rev) ([]string, store.Rev, error) {
	info, err := s.info(ctx)
	if err != nil {
		return nil, 0, err
	}
	last := info.State.LastSeq
	switch {
	case last < sequence(since):
		return nil, 0, fmt.Errorf("store: NATS answers from the past (%d, and was at %d): "+
			"a server that is cut off from the others, or a cluster that was put back from a backup; "+
			"for the latter, restart lockstepd", last, sequence(since))
	case last <= sequence(since) || !possible(prefix):
		return nil, max(since, upTo(last)), nil
	}
	var keys []string
	err = s.scan(ctx, prefix, sequence(since)+1, func(key string, _ uint64, _ bool) { keys = append(keys, key) })
	if err != nil {
		return nil, 0, err
	}
	slices.Sort(keys) // one that changed meanwhile was seen at both places
	return slices.Compact(keys), upTo(last), nil
}

// Keys implements [store.Store]. It reads all keys first and holds them, but not their values,
// until the last one was yielded: some 10 MB for 100 000. A key that comes or goes while it reads
// may be seen or not.
func (s *Store) Keys(ctx context.Context, prefix string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		keys, err := s.keys(ctx, prefix)
		if err != nil {
			yield("", err)
			return
		}
		for _, key := range keys {
			if err := ctx.Err(); err != nil {
				yield("", err)
				return
			}
			if !yield(key, nil) {
				return
			}
		}
	}
}

func (s *Store) keys(ctx context.Context, prefix string) ([]string, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	// A page cannot tell a stream that is gone from silence.
	if info, err := s.info(ctx); err != nil || info.State.Msgs == 0 || !possible(prefix) {
		return nil, err
	}
	type entry struct {
		key     string
		seq     uint64
		deleted bool
	}
	var found []entry
	err := s.scan(ctx, prefix, 1, func(key string, seq uint64, deleted bool) {
		found = append(found, entry{key, seq, deleted})
	})
	if err != nil {
		return nil, err
	}
	slices.SortFunc(found, func(a, b entry) int {
		return cmp.Or(strings.Compare(a.key, b.key), cmp.Compare(a.seq, b.seq))
	})
	var keys []string
	for i, e := range found {
		if newest := i+1 == len(found) || found[i+1].key != e.key; newest && !e.deleted {
			keys = append(keys, e.key)
		}
	}
	return keys, nil
}

// scan visits the keys under prefix whose last message has the sequence from or a later one, by
// sequence. A key that is written to meanwhile may be visited at its old sequence, its new one, or
// both.
//
// Any replica of the stream gives most of it, in pages. It may be behind, but what it gives is
// right up to the last message that it gave: a key whose last message it has not got yet is, for
// the leader, further on. So the leader is asked whether there is more.
func (s *Store) scan(
	ctx context.Context, prefix string, from uint64, visit func(key string, seq uint64, deleted bool),
) error {
	filter := s.filter(prefix)
	see := func(m message) {
		from = m.seq + 1
		if key, ok := s.key(m.subject); ok && strings.HasPrefix(key, prefix) {
			visit(key, m.seq, m.deleted)
		}
	}
	for {
		for more := true; more; {
			err := s.persist(ctx, func(ctx context.Context) (again bool, err error) {
				before := from
				more, err = s.page(ctx, filter, from, see)
				if err == nil || from > before {
					// after a part, a new page, with patience of its own
					more = more || err != nil
					return false, nil
				}
				return true, err
			})
			if err != nil {
				return err
			}
		}
		m, found, err := s.load(ctx, query{Next: filter, Seq: from})
		if err != nil || !found {
			return err
		}
		see(m)
	}
}
