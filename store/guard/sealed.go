package guard

import (
	"context"
	"fmt"

	"github.com/lockstep-tls/lockstep/store"
)

// Sealer encrypts values and proves on opening that nobody changed them. Both methods are safe for
// concurrent use, and keep neither of their arguments. Package seal has one.
type Sealer interface {
	// Seal encrypts plain and binds it to ad.
	Seal(plain, ad []byte) ([]byte, error)
	// Open undoes Seal. It fails if the bytes or ad are others.
	Open(sealed, ad []byte) ([]byte, error)
}

// Sealed is inner with every value sealed before it leaves the process. The associated data is
// the store key, so a record that was copied under another key does not open. An older record
// that is put back under its own key does. Keys are not hidden.
//
// Get may return an error that wraps [store.ErrSealed], with the revision, so that Swap can
// replace the record. It is never ErrNotExist.
func Sealed(inner store.Store, s Sealer) store.Store {
	return &hooks{
		inner: inner,
		read: func(keys []string, values []store.Value) {
			for i, v := range values {
				if v.Err == nil {
					values[i].Val, values[i].Err = openValue(s, keys[i], v.Val)
				}
			}
		},
		swap: func(_ context.Context, changes []store.Change, do swapper) []store.Outcome {
			return only(changes, func(c *store.Change) error { return sealChange(s, c) }, do)
		},
	}
}

func sealChange(s Sealer, c *store.Change) error {
	if c.Val == nil {
		return nil
	}
	sealed, err := s.Seal(c.Val, []byte(c.Key))
	if err != nil {
		return fmt.Errorf("store: sealing %q: %v; nothing was written", c.Key, err)
	}
	c.Val = sealed
	return nil
}

func openValue(s Sealer, key string, val []byte) ([]byte, error) {
	plain, err := s.Open(val, []byte(key))
	if err != nil { // %v, since the record is there whatever the sealer says
		return nil, fmt.Errorf("store: record %q %w: is this the sealing key that it was written with? (%v)",
			key, store.ErrSealed, err)
	}
	return plain, nil
}
