package guard_test

import (
	"bytes"
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lockstep-tls/lockstep/seal"
	"github.com/lockstep-tls/lockstep/store"
	"github.com/lockstep-tls/lockstep/store/bolt"
	"github.com/lockstep-tls/lockstep/store/guard"
	"github.com/lockstep-tls/lockstep/store/memory"
	"github.com/lockstep-tls/lockstep/store/storetest"
)

func newSealer(t *testing.T) *seal.Sealer {
	t.Helper()
	s, err := seal.Create(filepath.Join(t.TempDir(), "seal.json"))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestSealedKeepsTheContract(t *testing.T) {
	for name, inner := range map[string]func(t *testing.T) store.Store{
		"memory": func(*testing.T) store.Store { return memory.New() },
		"bolt": func(t *testing.T) store.Store {
			s, err := bolt.Open(filepath.Join(t.TempDir(), "store.db"))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { s.Close() })
			return s
		},
	} {
		t.Run(name, func(t *testing.T) {
			storetest.Run(t, func(t *testing.T) store.Store { return guard.Sealed(inner(t), newSealer(t)) })
		})
	}
}

func TestSealedHidesEveryValue(t *testing.T) {
	inner := memory.New()
	s := guard.Sealed(inner, newSealer(t))
	for _, plain := range []string{"", "a private key"} {
		key := store.Key("cert", "shop"+plain)
		if _, err := s.Swap(t.Context(), key, 0, []byte(plain)); err != nil {
			t.Fatal(err)
		}
		raw, _, err := inner.Get(t.Context(), key)
		if err != nil || len(raw) < len(plain)+28 || plain != "" && bytes.Contains(raw, []byte(plain)) {
			t.Errorf("%q is stored as %q (%v)", plain, raw, err)
		}
	}
}

func TestSealedRecordThatDoesNotOpen(t *testing.T) {
	inner := memory.New()
	s := guard.Sealed(inner, newSealer(t))
	rev, err := s.Swap(t.Context(), "cert/shop.example", 0, []byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	raw, _, err := inner.Get(t.Context(), "cert/shop.example")
	if err != nil {
		t.Fatal(err)
	}
	flipped := bytes.Clone(raw)
	flipped[len(flipped)-1] ^= 1
	for key, val := range map[string][]byte{
		"cert/copied.example": raw, // under another key
		"cert/flipped":        flipped,
		"cert/cut":            raw[:len(raw)-1],
		"cert/empty":          {},
		"cert/clear":          []byte("never sealed, but long enough to look as if it had been"),
	} {
		if _, err := inner.Swap(t.Context(), key, 0, val); err != nil {
			t.Fatal(err)
		}
		wantSealed(t, s, key)
	}
	other := guard.Sealed(inner, newSealer(t)) // another sealing key
	wantSealed(t, other, "cert/shop.example")
	if _, err := other.Swap(t.Context(), "cert/shop.example", rev, []byte("replaced")); err != nil {
		t.Errorf("a record that does not open cannot be replaced: %v", err)
	}
}

func wantSealed(t *testing.T, s store.Store, key string) {
	t.Helper()
	val, rev, err := s.Get(t.Context(), key)
	if many := store.GetAll(t.Context(), s, []string{key})[0]; !errors.Is(many.Err, store.ErrSealed) ||
		many.Rev != rev || many.Val != nil || rev == 0 {
		t.Errorf("GetAll(%s) = %+v, want ErrSealed at revision %d", key, many, rev)
	}
	if !errors.Is(err, store.ErrSealed) || errors.Is(err, store.ErrNotExist) ||
		val != nil || !strings.Contains(err.Error(), key) {
		t.Errorf("Get(%s) = %q, %v, want ErrSealed that names the key", key, val, err)
	}
}

// absentSealer says what a careless Sealer might.
type absentSealer struct{}

func (absentSealer) Seal(plain, _ []byte) ([]byte, error) { return plain, nil }
func (absentSealer) Open(_, _ []byte) ([]byte, error)     { return nil, store.ErrNotExist }

func TestSealedNeverCallsARecordAbsent(t *testing.T) {
	s := guard.Sealed(memory.New(), absentSealer{})
	if _, err := s.Swap(t.Context(), "a/x", 0, []byte("v")); err != nil {
		t.Fatal(err)
	}
	wantSealed(t, s, "a/x")
}
