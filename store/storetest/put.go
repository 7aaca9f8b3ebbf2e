package storetest

import (
	"errors"
	"testing"

	"github.com/lockstep-tls/lockstep/store"
)

// Put replaces the value of key, whatever its revision is. An empty val deletes it. The error is
// that of Swap.
func Put(t testing.TB, s store.Store, key, val string) error {
	t.Helper()
	_, rev, err := s.Get(t.Context(), key)
	if err != nil && !errors.Is(err, store.ErrNotExist) {
		t.Fatal(err)
	}
	var b []byte
	if val != "" {
		b = []byte(val)
	}
	_, err = s.Swap(t.Context(), key, rev, b)
	return err
}

// Clear is a sealer that hides nothing.
type Clear struct{}

// Seal returns plain.
func (Clear) Seal(plain, _ []byte) ([]byte, error) { return plain, nil }

// Open returns sealed.
func (Clear) Open(sealed, _ []byte) ([]byte, error) { return sealed, nil }
