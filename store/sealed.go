package store

import (
	"context"
	"errors"
)

// Sealer encrypts values and proves on opening that nobody changed them. Both methods are safe for concurrent use, and keep
// neither of their arguments. Package seal has one.
type Sealer interface {
	// Seal encrypts plain and binds it to ad.
	Seal(plain, ad []byte) ([]byte, error)
	// Open undoes Seal. It fails if the bytes or ad are others.
	Open(sealed, ad []byte) ([]byte, error)
}

// ErrSealed: the record is there, but does not open: another sealing key, or bytes that somebody changed or copied from
// another key.
var ErrSealed = errors.New("does not open")

// Sealed is inner with every value sealed before it leaves the process. The associated data is the store key, so that a record
// copied under another key does not open; an older record put back under its own key does. Keys are not hidden.
//
// Get may also return an error that wraps [ErrSealed], with the revision, so that Swap can still replace the record; it is never ErrNotExist.
func Sealed(inner Store, s Sealer) Store { return sealed{inner, s} }

type sealed struct {
	Store
	sealer Sealer
}

func (s sealed) Get(ctx context.Context, key string) ([]byte, Rev, error) {
	val, rev, err := s.Store.Get(ctx, key)
	if err != nil {
		return nil, 0, err
	}
	plain, err := s.open(key, val)
	return plain, rev, err
}

func (s sealed) Swap(ctx context.Context, key string, old Rev, val []byte) (Rev, error) {
	if val == nil {
		return s.Store.Swap(ctx, key, old, nil)
	}
	val, err := s.seal(key, val)
	if err != nil {
		return 0, err
	}
	return s.Store.Swap(ctx, key, old, val)
}
