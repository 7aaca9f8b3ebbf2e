package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"filippo.io/age"

	"github.com/lockstep-tls/lockstep/store"
)

// Take writes the records of a store, encrypted. Each is as it was at one moment during the call.
// Nothing is kept in memory or on disk. It fails at a record that does not open, and names it,
// since a backup with a hole would be noticed too late.
func Take(ctx context.Context, w io.Writer, to []age.Recipient, s store.Store) (records int, err error) {
	enc, err := age.Encrypt(w, to...)
	if err != nil {
		return 0, err
	}
	b, err := NewWriter(enc, time.Now())
	if err != nil {
		return 0, err
	}
	for key, err := range s.Keys(ctx, "") {
		if err != nil {
			return 0, fmt.Errorf("backup: listing the store: %w", err)
		}
		if leftOut(key) {
			continue
		}
		val, _, err := s.Get(ctx, key)
		if errors.Is(err, store.ErrNotExist) { // it has gone since it was listed
			continue
		}
		if err != nil {
			return 0, fmt.Errorf("backup: %w", err)
		}
		if err := b.Record(key, val); err != nil {
			return 0, err
		}
	}
	if err := b.Close(); err != nil {
		return 0, err
	}
	return b.n, enc.Close()
}

// leftOut reports whether a record is true only for the moment or for this store.
func leftOut(key string) bool { return !store.PrefixOf(key).Backup }
