package bolt

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"github.com/lockstep-tls/lockstep/internal/atomicfile"
	"github.com/lockstep-tls/lockstep/store"
)

// ErrInUse: another process has the store open.
var ErrInUse = errors.New("another lockstepd holds it")

// openTimeout is how long Open waits for another process, which may be on its way out.
const openTimeout = time.Second

// mapped is how much address space is mapped at once, in bytes; memory it costs none. A file that
// outgrows its mapping is mapped anew, and where that fails (a disk that has just turned read-only)
// nothing could be read any more.
const mapped = 1 << 30

// maxGone is how many deletes are remembered, for [Store.Changed].
const maxGone = 10_000

var (
	bucketKeys   = []byte("keys")
	bucketValues = []byte("values")
	bucketGone   = []byte("gone")
	bucketMeta   = []byte("meta")
)

// Store keeps the [store.Store] contract in a file. Safe for concurrent use; writers that come at
// the same time share a sync, and one that comes alone waits for nobody. Single changes go before
// those of [Store.SwapAll]: a rotation waits for bulkMost records of an import at most.
type Store struct {
	db      *bolt.DB
	path    string
	maxGone uint64

	turn   chan struct{} // capacity 1: whoever is in commits what waits
	mu     sync.Mutex
	single []*change
	bulk   [][]*change // of bulkMost at most, in the order in which they came
}

// Open opens the store in a file, or makes it (mode 0600). Its cost does not grow with the keys. If
// another process has it, the error wraps [ErrInUse], after a second.
func Open(path string) (*Store, error) {
	_, statErr := os.Stat(path)
	fresh := errors.Is(statErr, os.ErrNotExist)
	db, err := bolt.Open(path, 0o600,
		&bolt.Options{Timeout: openTimeout, FreelistType: bolt.FreelistMapType, InitialMmapSize: mapped})
	if errors.Is(err, bolterrors.ErrTimeout) {
		return nil, fmt.Errorf("store: %s: %w: stop it first, or use another --data-dir", path, ErrInUse)
	}
	s := &Store{db: db, path: path, maxGone: maxGone, turn: make(chan struct{}, 1)}
	if err == nil {
		if err = s.prepare(fresh); err != nil {
			db.Close()
		}
	}
	if err != nil {
		if fresh { // what a full disk cut short would be refused as damaged from then on
			os.Remove(path)
		}
		return nil, s.explain(err, "")
	}
	return s, nil
}

// openToReadTimeout is how long OpenToRead waits for a process that has the store. bbolt looks
// again each 50 ms.
const openToReadTimeout = 100 * time.Millisecond

// OpenToRead opens a store that is there, to read. Every change fails. The file stays as it is, and
// a process that opens the store meanwhile waits for Close. If there is no store, or one in which
// nothing was ever written, the error wraps [fs.ErrNotExist]. If a process has it open, the error
// wraps [ErrInUse].
func OpenToRead(path string) (*Store, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if st.Size() == 0 { // a start that was cut short
		return nil, &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
	}
	db, err := bolt.Open(path, 0, &bolt.Options{Timeout: openToReadTimeout, ReadOnly: true})
	if errors.Is(err, bolterrors.ErrTimeout) {
		return nil, fmt.Errorf("store: %s: %w: stop it first, or use another --data-dir", path, ErrInUse)
	}
	s := &Store{db: db, path: path, maxGone: maxGone, turn: make(chan struct{}, 1)}
	if err == nil {
		var missing bool
		if missing, err = s.unprepared(); err == nil && missing {
			err = &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
		}
		if err != nil {
			db.Close()
		}
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		err = s.explain(err, "")
	}
	if err != nil {
		return nil, err
	}
	return s, nil
}

// Close ends all use. Calls under way end first; later ones fail.
func (s *Store) Close() error {
	if err := s.db.Close(); err != nil {
		return s.explain(err, "")
	}
	return nil
}

// prepare makes the buckets, and the name of a fresh file durable.
func (s *Store) prepare(fresh bool) error {
	missing, err := s.unprepared()
	if err != nil || !missing {
		return err
	}
	if err := s.db.Update(func(tx *bolt.Tx) error {
		for _, name := range [][]byte{bucketKeys, bucketValues, bucketGone, bucketMeta} {
			if _, err := tx.CreateBucketIfNotExists(name); err != nil {
				return err
			}
		}
		return nil
	}); err != nil || !fresh {
		return err
	}
	return atomicfile.SyncDir(filepath.Dir(s.path))
}

// unprepared reports whether there are no buckets yet.
func (s *Store) unprepared() (missing bool, err error) {
	err = s.db.View(func(tx *bolt.Tx) error {
		missing = tx.Bucket(bucketMeta) == nil
		if !missing && (tx.Bucket(bucketKeys) == nil || tx.Bucket(bucketValues) == nil) {
			// else it would look empty
			return errors.New("there are no records in the file, or not as this version keeps them: " +
				"restore it from a backup")
		}
		return nil
	})
	return missing, err
}

// Get implements [store.Store].
func (s *Store) Get(ctx context.Context, key string) ([]byte, store.Rev, error) {
	if err := ctx.Err(); err != nil {
		return nil, 0, err
	}
	var val []byte
	var rev store.Rev
	err := s.db.View(func(tx *bolt.Tx) error {
		var err error
		val, rev, err = value(tx, key)
		return err
	})
	if errors.Is(err, store.ErrNotExist) {
		return nil, 0, err
	}
	if err != nil {
		return nil, 0, s.explain(err, "")
	}
	return val, rev, nil
}

// value reads what is stored under a key.
func value(tx *bolt.Tx, key string) ([]byte, store.Rev, error) {
	rev := tx.Bucket(bucketKeys).Get([]byte(key))
	if rev == nil {
		return nil, 0, fmt.Errorf("%w: %s", store.ErrNotExist, key)
	}
	if is, val, ok := parse(tx.Bucket(bucketValues).Get(rev)); ok && len(rev) == revSize && string(is) == key {
		// the record is valid within the transaction only
		return append([]byte{}, val...), toRev(rev), nil
	}
	return nil, 0, fmt.Errorf("the record of %q is damaged: restore the file from a backup", key)
}

// record is what stands in the bucket values.
func record(key string, val []byte) []byte {
	b := make([]byte, 0, binary.MaxVarintLen64+len(key)+len(val))
	return append(append(binary.AppendUvarint(b, uint64(len(key))), key...), val...)
}

func parse(record []byte) (key, val []byte, ok bool) {
	n, size := binary.Uvarint(record)
	if size <= 0 || n > uint64(len(record)-size) {
		return nil, nil, false
	}
	return record[size:][:n], record[size:][n:], true
}

// Now implements [store.Store].
func (s *Store) Now(ctx context.Context) (time.Time, error) { return time.Now(), ctx.Err() }

const revSize = 8

func fromRev(rev store.Rev) []byte { return binary.BigEndian.AppendUint64(nil, uint64(rev)) }

// toRev reads a revision; 0 where there is none.
func toRev(b []byte) store.Rev {
	if len(b) < revSize {
		return 0
	}
	return store.Rev(binary.BigEndian.Uint64(b))
}
