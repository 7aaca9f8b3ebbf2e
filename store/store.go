// Package store keeps small values that every replica sees, and changes them by compare-and-swap. Nothing here knows what a value means.
//
// Keys are paths ("cert/shop.example", made by [Key]); each first segment has one owner package.
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

// Rev is the revision of a value. Revisions of one store grow and never repeat, not even for a key that was deleted and made
// again. 0 means "no value".
type Rev uint64

// Store is the contract that every driver keeps (package storetest checks it). All methods are safe for concurrent use.
//
// [ErrNotExist], [ErrConflict] and [ErrFrozen] are certain. After any other error of Swap the outcome is unknown: read again. There is no TTL: a lease's
// end stands in its record.
type Store interface {
	// Get returns the value of key and its revision, or an error that wraps ErrNotExist. The caller owns the bytes.
	Get(ctx context.Context, key string) (val []byte, rev Rev, err error)

	// Swap replaces the value of key if its revision is still old (0: only if there is none) and returns the new revision. A nil
	// val deletes. When it returns without an error the change is as durable as the store can make it. If the revision is another
	// one, the error wraps ErrConflict.
	Swap(ctx context.Context, key string, old Rev, val []byte) (Rev, error)

	// Changed returns the keys under prefix that were written or deleted after since, each once, and the revision up to which
	// that is true, to be passed as since the next time. Its cost follows what changed, not what is stored. The keys may include some that
	// did not change.
	Changed(ctx context.Context, prefix string, since Rev) (keys []string, head Rev, err error)

	// Keys yields every key under prefix, in byte order. After an error it ends.
	Keys(ctx context.Context, prefix string) iter.Seq2[string, error]

	// Now is the store's clock, by which all replicas go.
	Now(ctx context.Context) (time.Time, error)
}

var (
	// ErrNotExist: there is no such key, and that is certain.
	ErrNotExist = errors.New("no such key")
	// ErrConflict: the key's revision is not the expected one; somebody else was first. Certain.
	ErrConflict = errors.New("changed by somebody else")
	// ErrFrozen: the store is being moved, and refuses changes until that has ended. Certain: nothing was written.
	ErrFrozen = errors.New("the store is frozen")
	// ErrLost: the store has lost everything: it is empty where this process had seen values (a stream deleted, a FLUSHALL). A driver
	// that can tell returns it from every method, instead of ErrNotExist, until its own method Recreate(ctx) error was called, which
	// starts anew with revisions above all that were seen. Whether, and with which values, the caller decides.
	ErrLost = errors.New("the store has lost its content")
)

// Key makes a key out of segments. It is the one place that escapes: every byte but a-z A-Z 0-9 . _ - becomes =XX, since
// NATS forbids "*" and others in keys, and so a slash parts segments only.
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
