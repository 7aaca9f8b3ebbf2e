package bolt

import (
	"bytes"
	"context"
	"encoding/binary"
	"iter"

	bolt "go.etcd.io/bbolt"

	"github.com/lockstep-tls/lockstep/store"
)

// page is how many keys are read in one transaction. A reading transaction keeps the file from
// growing in place and its old pages from being used again, so none lasts while a consumer runs.
const page = 512

// firstPage is how many are read at first, then twice as many each time: who looks whether there is
// any key need not touch as many pages of the file.
const firstPage = 8

var (
	metaGone  = []byte("gone")  // how many deletes stand in bucketGone
	metaFloor = []byte("floor") // the revision of the newest delete that does not any more
)

// Changed implements [store.Store]. Before deletes that are no longer remembered (the newest 10 000
// are), and at 0, it names all keys under prefix, and the deletes that are.
func (s *Store) Changed(ctx context.Context, prefix string, since store.Rev) ([]string, store.Rev, error) {
	if err := ctx.Err(); err != nil {
		return nil, 0, err
	}
	var keys []string
	var head store.Rev
	err := s.db.View(func(tx *bolt.Tx) error {
		all, values, gone := tx.Bucket(bucketKeys), tx.Bucket(bucketValues), tx.Bucket(bucketGone)
		head = store.Rev(values.Sequence())
		if since == 0 || since < toRev(tx.Bucket(bucketMeta).Get(metaFloor)) {
			for k := range under(all, []byte(prefix), nil) {
				keys = append(keys, string(k))
			}
		} else {
			for key := range after(values, whose, []byte(prefix), since) {
				keys = append(keys, string(key))
			}
		}
		told := make(map[string]bool)
		for key := range after(gone, itself, []byte(prefix), since) {
			if !told[string(key)] && all.Get(key) == nil { // one that was made again is live
				told[string(key)] = true
				keys = append(keys, string(key))
			}
		}
		return ctx.Err()
	})
	if err != nil {
		return nil, 0, s.explain(err, "")
	}
	return keys, head, nil
}

// Keys implements [store.Store]. It is not a snapshot: a key that comes or goes meanwhile may be
// seen or not.
func (s *Store) Keys(ctx context.Context, prefix string) iter.Seq2[string, error] {
	return s.keysAfter(ctx, prefix, nil)
}

func (s *Store) keysAfter(ctx context.Context, prefix string, last []byte) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		last := last // of this pass
		most := firstPage
		for more := true; more; most = min(2*most, page) {
			keys := make([]string, 0, most)
			err := ctx.Err()
			if err == nil {
				err = s.db.View(func(tx *bolt.Tx) error {
					for k := range under(tx.Bucket(bucketKeys), []byte(prefix), last) {
						if keys = append(keys, string(k)); len(keys) == most {
							break
						}
					}
					return nil
				})
			}
			if err != nil {
				yield("", s.explain(err, ""))
				return
			}
			for _, key := range keys {
				if !yield(key, nil) {
					return
				}
			}
			if more = len(keys) == most; more {
				last = []byte(keys[most-1])
			}
		}
	}
}

// under yields the keys of b that begin with prefix and come after last (nil: all), in byte order.
// They are valid within the transaction only.
func under(b *bolt.Bucket, prefix, last []byte) iter.Seq[[]byte] {
	from := prefix
	if last != nil {
		from = append(bytes.Clone(last), 0)
	}
	return func(yield func([]byte) bool) {
		c := b.Cursor()
		for k, _ := c.Seek(from); k != nil && bytes.HasPrefix(k, prefix); k, _ = c.Next() {
			if !yield(k) {
				return
			}
		}
	}
}

// after yields the keys that begin with prefix in a bucket by revision, of the revisions after
// since; key finds them in what stands there.
func after(b *bolt.Bucket, key func([]byte) []byte, prefix []byte, since store.Rev) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		c := b.Cursor()
		for k, v := c.Seek(fromRev(since + 1)); k != nil; k, v = c.Next() {
			if key := key(v); bytes.HasPrefix(key, prefix) && !yield(key) {
				return
			}
		}
	}
}

func whose(record []byte) []byte { key, _, _ := parse(record); return key }

func itself(key []byte) []byte { return key }

// bury notes a delete at the revision index, and forgets the oldest ones beyond limit.
func bury(tx *bolt.Tx, index, key []byte, limit uint64) error {
	gone, meta := tx.Bucket(bucketGone), tx.Bucket(bucketMeta)
	if err := gone.Put(index, key); err != nil {
		return err
	}
	n := uint64(toRev(meta.Get(metaGone))) + 1
	for c := gone.Cursor(); n > limit; n-- {
		oldest, _ := c.First()
		if err := meta.Put(metaFloor, bytes.Clone(oldest)); err != nil {
			return err
		}
		if err := c.Delete(); err != nil {
			return err
		}
	}
	return meta.Put(metaGone, binary.BigEndian.AppendUint64(nil, n))
}
