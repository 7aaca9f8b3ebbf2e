package bolt

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"slices"

	bolt "go.etcd.io/bbolt"

	"github.com/lockstep-tls/lockstep/store"
)

var _ store.Store = (*Store)(nil)

// GetAll implements [store.Store]: all that is read is of one moment.
func (s *Store) GetAll(ctx context.Context, keys []string) []store.Value {
	out := make([]store.Value, len(keys))
	err := ctx.Err()
	if err == nil {
		err = s.db.View(func(tx *bolt.Tx) error {
			for i, key := range keys {
				v := &out[i]
				if v.Val, v.Rev, v.Err = value(tx, key); v.Err != nil && !errors.Is(v.Err, store.ErrNotExist) {
					v.Err = s.explain(v.Err, "")
				}
			}
			return nil
		})
		if err != nil {
			err = s.explain(err, "")
		}
	}
	for i := range out {
		if err != nil {
			out[i] = store.Value{Err: err}
		}
	}
	return out
}

// bulkMost is how many changes of SwapAll one transaction makes: a single change waits for no more.
// Larger ones are hardly faster.
const bulkMost = 512

// SwapAll implements [store.Store], in transactions of bulkMost.
func (s *Store) SwapAll(ctx context.Context, changes []store.Change) []store.Outcome {
	out := make([]store.Outcome, len(changes))
	all := make([]*change, 0, len(changes))
	at := make([]int, 0, len(changes)) // where their outcomes belong
	for i, c := range changes {
		next, err := newChange(c.Key, c.Old, c.Val)
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			out[i].Err = err
			continue
		}
		all, at = append(all, next), append(at, i)
	}
	if len(all) == 0 {
		return out
	}
	s.mu.Lock()
	s.bulk = slices.AppendSeq(s.bulk, slices.Chunk(all, bulkMost))
	s.mu.Unlock()
	for last := all[len(all)-1]; !last.isDone(); {
		select {
		case s.turn <- struct{}{}:
			s.commit(s.takeSingle())
			s.commit(s.takeBulk()) // perhaps somebody else's, who came before
			<-s.turn
		case <-last.done:
		case <-ctx.Done():
			for c, withdrawn := range s.withdrawAll(all) {
				if i := at[c]; all[c].isDone() {
					out[i] = store.Outcome{Rev: all[c].rev, Err: all[c].err}
				} else {
					out[i].Err = all[c].givenUp(ctx, withdrawn)
				}
			}
			return out
		}
	}
	for i, c := range all {
		out[at[i]] = store.Outcome{Rev: c.rev, Err: c.err}
	}
	return out
}

// takeBulk returns the changes of one SwapAll that come next.
func (s *Store) takeBulk() []*change {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.bulk) == 0 {
		return nil
	}
	next := s.bulk[0]
	s.bulk = slices.Delete(s.bulk, 0, 1)
	return next
}

// withdrawAll takes what still waits of one SwapAll out of the queue, and says of each change
// whether it did.
func (s *Store) withdrawAll(all []*change) []bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]bool, 0, len(all))
	for part := range slices.Chunk(all, bulkMost) {
		n := len(s.bulk)
		s.bulk = slices.DeleteFunc(s.bulk, func(waits []*change) bool { return waits[0] == part[0] })
		out = append(out, slices.Repeat([]bool{len(s.bulk) < n}, len(part))...)
	}
	return out
}

// KeysAfter implements [store.Store].
func (s *Store) KeysAfter(ctx context.Context, prefix, last string) iter.Seq2[string, error] {
	if last < prefix {
		return s.Keys(ctx, prefix)
	}
	return s.keysAfter(ctx, prefix, []byte(last))
}

// Recreate implements [store.Store]. It does nothing: the file is not emptied while it is open.
func (s *Store) Recreate(ctx context.Context) error { return ctx.Err() }

// newChange is a change that waits for nothing yet.
func newChange(key string, old store.Rev, val []byte) (*change, error) {
	if len(key) == 0 || len(key) > bolt.MaxKeySize ||
		len(val) > bolt.MaxValueSize-bolt.MaxKeySize-binary.MaxVarintLen64 {
		return nil, fmt.Errorf("store: %.100q: a key of %d bytes and a value of %d do not fit", key, len(key), len(val))
	}
	c := &change{key: []byte(key), old: old, done: make(chan struct{})}
	if val != nil { // a copy, since the caller may be gone before it is written
		c.record = record(key, val)
	}
	return c, nil
}

func (c *change) isDone() bool {
	select {
	case <-c.done:
		return true
	default:
		return false
	}
}

// givenUp is what a caller whose ctx has ended is told of c.
func (c *change) givenUp(ctx context.Context, withdrawn bool) error {
	if withdrawn {
		return fmt.Errorf("store: %s was not written: %w", c.key, ctx.Err())
	}
	return fmt.Errorf("store: %s is being written, with an unknown outcome: %w", c.key, ctx.Err())
}
