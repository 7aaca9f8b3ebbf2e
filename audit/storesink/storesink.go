// Package storesink keeps the audit log in a store. It makes [audit.Records] of one.
//
// It owns the keys "audit/…". The names of records are their store keys: audit/head, audit/key,
// audit/lines/… and audit/names/….
//
// The store must be sealed, since the key of the log is one of its records. Who can read it can
// forge lines. The package maps names and errors, and knows nothing of lines. The chain is
// package audit's.
package storesink

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/lockstep-tls/lockstep/audit"
	"github.com/lockstep-tls/lockstep/store"
)

// New returns the records in s. Their names are its keys.
func New(s store.Store) audit.Records { return records{s} }

type records struct{ store store.Store }

// Get implements [audit.Records].
func (r records) Get(ctx context.Context, name string) ([]byte, uint64, error) {
	if err := ours(name); err != nil {
		return nil, 0, err
	}
	text, rev, err := r.store.Get(ctx, name)
	return text, uint64(rev), said(err)
}

// Swap implements [audit.Records].
func (r records) Swap(ctx context.Context, name string, old uint64, text []byte) (uint64, error) {
	if err := ours(name); err != nil {
		return 0, err
	}
	rev, err := r.store.Swap(ctx, name, store.Rev(old), text)
	return uint64(rev), said(err)
}

// Keys implements [audit.Records].
func (r records) Keys(ctx context.Context, prefix string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		if err := ours(prefix); err != nil {
			yield("", err)
			return
		}
		for key, err := range r.store.Keys(ctx, prefix) {
			if !yield(key, said(err)) {
				return
			}
		}
	}
}

// Now implements [audit.Records].
func (r records) Now(ctx context.Context) (time.Time, error) { return r.store.Now(ctx) }

// ours refuses names outside of the prefix that the register gives to this package.
func ours(name string) error {
	if !store.AuditLog.Has(name) {
		return fmt.Errorf("audit: %q is not a record of the audit log", name)
	}
	return nil
}

// said is err, which also is what [audit.Records] promise.
func said(err error) error {
	for _, m := range []struct{ from, to error }{
		{store.ErrNotExist, audit.ErrNotExist},
		{store.ErrConflict, audit.ErrConflict},
		{store.ErrSealed, audit.ErrSealed},
	} {
		if errors.Is(err, m.from) {
			return also{err, m.to}
		}
	}
	return err
}

// also is an error with the words of the first one, that is the second one too.
type also struct{ err, as error }

func (a also) Error() string   { return a.err.Error() }
func (a also) Unwrap() []error { return []error{a.err, a.as} }
