package bolt

import (
	"context"
	"fmt"
	"slices"

	bolt "go.etcd.io/bbolt"

	"github.com/lockstep-tls/lockstep/store"
)

// change is one Swap that waits for its commit.
type change struct {
	key    []byte
	old    store.Rev
	record []byte // nil: delete

	done chan struct{} // closed when rev and err are set
	rev  store.Rev
	err  error
}

// Swap implements [store.Store]. If ctx ends while the change is being written, the outcome is
// unknown.
func (s *Store) Swap(ctx context.Context, key string, old store.Rev, val []byte) (store.Rev, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	c, err := newChange(key, old, val)
	if err != nil {
		return 0, err
	}
	s.mu.Lock()
	s.single = append(s.single, c)
	s.mu.Unlock()

	select {
	case s.turn <- struct{}{}:
		// nobody is writing: write all that waits, which may be nothing by now
		s.commit(s.takeSingle())
		<-s.turn
		<-c.done
		return c.rev, c.err
	case <-c.done: // somebody wrote it along with theirs
		return c.rev, c.err
	case <-ctx.Done():
		return 0, c.givenUp(ctx, s.withdraw(c))
	}
}

// takeSingle returns all single changes that wait.
func (s *Store) takeSingle() []*change {
	s.mu.Lock()
	defer s.mu.Unlock()
	batch := s.single
	s.single = nil
	return batch
}

func (s *Store) withdraw(c *change) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.Index(s.single, c)
	if i < 0 {
		return false
	}
	s.single = slices.Delete(s.single, i, i+1)
	return true
}

// commit writes all changes of batch in one transaction and tells each what became of it.
func (s *Store) commit(batch []*change) {
	if len(batch) == 0 {
		return
	}
	if err := s.write(batch); err != nil { // a conflict within the batch was not certain either
		for _, c := range batch {
			c.rev, c.err = 0, err
		}
	}
	for _, c := range batch {
		close(c.done)
	}
}

// write sets rev and err of each change, unless it returns an error, which is then the answer to
// all.
func (s *Store) write(batch []*change) error {
	tx, err := s.db.Begin(true)
	if err != nil {
		return s.explain(err, notMade)
	}
	changed := false
	for _, c := range batch {
		did, err := s.apply(tx, c)
		if err != nil {
			tx.Rollback()
			return s.explain(err, notMade)
		}
		changed = changed || did
	}
	if !changed { // nothing to sync
		return tx.Rollback()
	}
	id := tx.ID()
	if err := tx.Commit(); err != nil {
		return s.explain(err, s.outcome(id))
	}
	return nil
}

// apply makes one change within tx; did is false where it has no effect. The error is for the whole
// transaction.
func (s *Store) apply(tx *bolt.Tx, c *change) (did bool, err error) {
	keys, values := tx.Bucket(bucketKeys), tx.Bucket(bucketValues)
	now := toRev(keys.Get(c.key))
	if now != c.old {
		c.err = fmt.Errorf("%w: %s is at revision %d, not %d", store.ErrConflict, c.key, now, c.old)
		return false, nil
	}
	if now == 0 && c.record == nil { // nothing to delete
		c.rev = store.Rev(values.Sequence())
		return false, nil
	}
	seq, err := values.NextSequence()
	if err != nil {
		return false, err
	}
	c.rev = store.Rev(seq)
	index := fromRev(c.rev)
	if now != 0 {
		if err := values.Delete(fromRev(now)); err != nil {
			return false, err
		}
	}
	if c.record == nil {
		if err := keys.Delete(c.key); err != nil {
			return false, err
		}
		return true, bury(tx, index, c.key, s.maxGone)
	}
	values.FillPercent = 1 // revisions grow: nothing comes between
	if err := values.Put(index, c.record); err != nil {
		return false, err
	}
	return true, keys.Put(c.key, index)
}

// outcome says whether the transaction id, whose commit failed, can be seen nevertheless: its last
// write was made, but not synced.
func (s *Store) outcome(id int) string {
	tx, err := s.db.Begin(false)
	if err != nil {
		return unknown
	}
	defer tx.Rollback()
	if tx.ID() >= id {
		return unknown
	}
	return notMade
}
