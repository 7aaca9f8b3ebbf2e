package bolt

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"

	bolt "go.etcd.io/bbolt"

	"github.com/lockstep-tls/lockstep/store"
)

var _ store.Bulk = (*Store)(nil)

// GetAll implements [store.Bulk]: all that is read is of one moment.
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

// SwapAll implements [store.Bulk] in one transaction, and with others that wait.
func (s *Store) SwapAll(ctx context.Context, changes []store.Change) []store.Outcome {
	out := make([]store.Outcome, len(changes))
	batch := make([]*change, 0, len(changes))
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
		batch, at = append(batch, next), append(at, i)
	}
	if len(batch) == 0 {
		return out
	}
	s.mu.Lock()
	s.waiting = append(s.waiting, batch...) // together, and taken together
	s.mu.Unlock()
	last := batch[len(batch)-1]
	select {
	case s.turn <- struct{}{}:
		s.commit(s.takeWaiting())
		<-s.turn
		<-last.done
	case <-last.done:
	case <-ctx.Done():
		for i, c := range batch {
			out[at[i]].Err = s.giveUp(ctx, c)
		}
		return out
	}
	for i, c := range batch {
		<-c.done // by the one commit
		out[at[i]] = store.Outcome{Rev: c.rev, Err: c.err}
	}
	return out
}

// KeysAfter implements [store.Bulk].
func (s *Store) KeysAfter(ctx context.Context, prefix, last string) iter.Seq2[string, error] {
	if last < prefix {
		return s.Keys(ctx, prefix)
	}
	return s.keysAfter(ctx, prefix, []byte(last))
}

// newChange is a change that waits for nothing yet.
func newChange(key string, old store.Rev, val []byte) (*change, error) {
	if len(key) == 0 || len(key) > bolt.MaxKeySize || len(val) > bolt.MaxValueSize-bolt.MaxKeySize-binary.MaxVarintLen64 {
		return nil, fmt.Errorf("store: %.100q: a key of %d bytes and a value of %d do not fit", key, len(key), len(val))
	}
	c := &change{key: []byte(key), old: old, done: make(chan struct{})}
	if val != nil { // a copy, since the caller may be gone before it is written
		c.record = record(key, val)
	}
	return c, nil
}

// giveUp is what a caller whose ctx has ended is told.
func (s *Store) giveUp(ctx context.Context, c *change) error {
	if s.withdraw(c) {
		return fmt.Errorf("store: %s was not written: %w", c.key, ctx.Err())
	}
	return fmt.Errorf("store: %s is being written, with an unknown outcome: %w", c.key, ctx.Err())
}
