package audit

import (
	"context"
	"errors"
	"iter"
	"time"
)

// Records keep the chain that all replicas share: its lines, the key of its MACs, and the names
// that a line stands for. Whoever keeps them must encrypt them, since the key is among them. All
// methods are safe for concurrent use.
//
// The names of records are paths of a-z, 0-9, "-" and "/", and begin with "audit/". [ErrNotExist]
// and [ErrConflict] are certain. After any other error of Swap the record may have been written.
type Records interface {
	// Get returns a record and its revision, or an error that wraps ErrNotExist. If the record is
	// there and cannot be decrypted, the error wraps ErrSealed, and the revision is right.
	Get(ctx context.Context, name string) (text []byte, rev uint64, err error)

	// Swap replaces a record if its revision is still old, and returns the new one, durably. An
	// old revision of 0 is for a record that is not there. If the revision is another one, the
	// error wraps ErrConflict.
	Swap(ctx context.Context, name string, old uint64, text []byte) (uint64, error)

	// Keys yields the names that begin with prefix, in byte order. After an error it ends.
	Keys(ctx context.Context, prefix string) iter.Seq2[string, error]

	// Now is the clock by which all replicas go.
	Now(ctx context.Context) (time.Time, error)
}

// What [Records] say.
var (
	ErrNotExist = errors.New("no such record of the audit log")
	ErrConflict = errors.New("a record of the audit log was changed by somebody else")
	ErrSealed   = errors.New("a record of the audit log does not open")
)
