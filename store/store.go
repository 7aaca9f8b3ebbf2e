package store

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strconv"
	"strings"
	"time"
)

// Rev is the revision of a value. Revisions of one store grow and never repeat, not even for a
// key that was deleted and made again. 0 means "no value".
type Rev uint64

// Single is the part of the contract that is about one key at a time. [OneByOne] makes a [Store]
// of it.
type Single interface {
	// Get returns the value of key and its revision, or an error that wraps ErrNotExist. The caller
	// owns the bytes.
	Get(ctx context.Context, key string) (val []byte, rev Rev, err error)

	// Swap replaces the value of key if its revision is still old, and returns the new revision. An
	// old revision of 0 is for a key without a value. A nil val deletes. If the revision is another
	// one, the error wraps ErrConflict. Without an error the change is as durable as the store can
	// make it.
	Swap(ctx context.Context, key string, old Rev, val []byte) (Rev, error)

	// Changed returns the keys under prefix that were written or deleted after since, each once.
	// head is the revision up to which that is all, to be passed as since the next time. The cost
	// follows what changed, not what is stored. The keys may include some that did not change.
	Changed(ctx context.Context, prefix string, since Rev) (keys []string, head Rev, err error)

	// Keys yields every key under prefix, in byte order. After an error it ends.
	Keys(ctx context.Context, prefix string) iter.Seq2[string, error]

	// Now is the store's clock, by which all replicas go.
	Now(ctx context.Context) (time.Time, error)
}

// Store is the contract that every driver and every guard (package guard) keeps. Package
// storetest checks it. All methods are safe for concurrent use.
//
// [ErrNotExist], [ErrConflict] and [ErrFrozen] are certain. After any other error of Swap the
// outcome is unknown, and the caller must read again. There is no TTL: the end of a lease stands
// in its record.
type Store interface {
	Single

	// GetAll is Get of each key, of at most [MaxBulk]. It returns a value for each, in their order.
	// The function [GetAll] takes any number.
	GetAll(ctx context.Context, keys []string) []Value

	// SwapAll is Swap of each change, on its own, of at most [MaxBulk]. It returns an outcome for
	// each, in their order. A change that conflicts or fails leaves the others alone. Of two
	// changes of the same key the first is made first. The function [SwapAll] takes any number.
	SwapAll(ctx context.Context, changes []Change) []Outcome

	// KeysAfter is Keys of those that come after last in byte order. Its cost should not grow with
	// the keys before them.
	KeysAfter(ctx context.Context, prefix, last string) iter.Seq2[string, error]

	// Recreate makes a store usable again that said [ErrLost]. It starts anew, empty, with
	// revisions above all that this process had seen. Of several replicas that call it at once,
	// one makes the store and the others take that. A store that has lost nothing stays as it is.
	Recreate(ctx context.Context) error
}

var (
	// ErrNotExist says for certain that there is no such key.
	ErrNotExist = errors.New("no such key")
	// ErrConflict says for certain that the revision of the key is not the expected one. Somebody
	// else was first.
	ErrConflict = errors.New("changed by somebody else")
	// ErrFrozen says for certain that nothing was written. The store is being moved, and refuses
	// changes until that has ended.
	ErrFrozen = errors.New("the store is frozen")
	// ErrLost says that the store has lost everything: it is empty where this process had seen
	// values (a stream deleted, a FLUSHALL). A driver that can tell returns it from every method,
	// instead of ErrNotExist, until Recreate was called. Whether that is done, and with which
	// values the store is filled again, the caller decides.
	ErrLost = errors.New("the store has lost its content")
	// ErrSealed says that the record is there, but does not open. It was sealed with another key,
	// or somebody changed its bytes or copied them from another key of the store.
	ErrSealed = errors.New("does not open")
)

// Key makes a key out of segments. It is the one place that escapes: every byte but a-z A-Z 0-9 .
// _ - becomes =XX. NATS forbids "*" and others in keys, and so a slash parts segments only.
func Key(segments ...string) string {
	var b strings.Builder
	for i, s := range segments {
		if i > 0 {
			b.WriteByte('/')
		}
		for j := range len(s) {
			if c := s[j]; plain(c) {
				b.WriteByte(c)
			} else {
				fmt.Fprintf(&b, "=%02X", c)
			}
		}
	}
	return b.String()
}

// Segment undoes [Key] for the last segment of key.
func Segment(key string) (string, error) {
	s := key[strings.LastIndexByte(key, '/')+1:]
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '=' {
			b.WriteByte(s[i])
			continue
		}
		if i+2 >= len(s) {
			return "", fmt.Errorf("store: key %q is badly escaped", key)
		}
		c, err := strconv.ParseUint(s[i+1:i+3], 16, 8)
		if err != nil {
			return "", fmt.Errorf("store: key %q is badly escaped", key)
		}
		b.WriteByte(byte(c))
		i += 2
	}
	return b.String(), nil
}

func plain(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '.' || c == '_' || c == '-'
}
