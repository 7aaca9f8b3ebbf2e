package storesink_test

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"slices"
	"testing"

	"github.com/lockstep-tls/lockstep/audit"
	"github.com/lockstep-tls/lockstep/audit/storesink"
	"github.com/lockstep-tls/lockstep/seal"
	"github.com/lockstep-tls/lockstep/store"
	"github.com/lockstep-tls/lockstep/store/guard"
	"github.com/lockstep-tls/lockstep/store/memory"
)

func sealed(t *testing.T, raw store.Store) store.Store {
	t.Helper()
	s, err := seal.Create(filepath.Join(t.TempDir(), "key"))
	if err != nil {
		t.Fatal(err)
	}
	return guard.Sealed(raw, s)
}

func TestALogInAStoreIsWrittenVerifiedAndItsDamageFound(t *testing.T) {
	raw := memory.New()
	s := sealed(t, raw)
	l, err := audit.New(audit.Config{Records: storesink.New(s), Replica: "r1", Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for range 3 {
		if _, err := l.Append(t.Context(), audit.Entry{Actor: "me", What: "test"}); err != nil {
			t.Fatal(err)
		}
	}
	if r, err := l.Verify(t.Context(), nil); err != nil || r.Lines != 3 || len(r.Problems) != 0 {
		t.Fatalf("%+v %v", r, err)
	}
	_, rev, err := raw.Get(t.Context(), "audit/head")
	if err == nil {
		_, err = raw.Swap(t.Context(), "audit/head", rev, []byte("flipped"))
	}
	if err != nil {
		t.Fatal(err)
	}
	if r, err := l.Verify(t.Context(), nil); err != nil || len(r.Problems) == 0 {
		t.Errorf("a record that does not open is not named: %+v %v", r, err)
	}
}

func TestErrorsAreThoseOfTheStoreAndOfTheLog(t *testing.T) {
	raw := memory.New()
	r := storesink.New(sealed(t, raw))
	if _, _, err := r.Get(t.Context(), "audit/x"); !errors.Is(err, audit.ErrNotExist) ||
		!errors.Is(err, store.ErrNotExist) {
		t.Errorf("what is absent: %v", err)
	}
	rev, err := r.Swap(t.Context(), "audit/x", 0, []byte("v"))
	if err != nil || rev == 0 {
		t.Fatalf("%d %v", rev, err)
	}
	if _, err := r.Swap(t.Context(), "audit/x", 0, []byte("w")); !errors.Is(err, audit.ErrConflict) ||
		!errors.Is(err, store.ErrConflict) {
		t.Errorf("a conflict: %v", err)
	}
	if _, err := raw.Swap(t.Context(), "audit/x", store.Rev(rev), []byte("flipped")); err != nil {
		t.Fatal(err)
	}
	if _, rev, err := r.Get(t.Context(), "audit/x"); !errors.Is(err, audit.ErrSealed) ||
		errors.Is(err, audit.ErrNotExist) || rev == 0 {
		t.Errorf("what does not open: %d %v", rev, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := r.Get(ctx, "audit/x"); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestNothingBesideTheLogIsTouched(t *testing.T) {
	s := memory.New()
	if _, err := s.Swap(t.Context(), "cert/a", 0, []byte("v")); err != nil {
		t.Fatal(err)
	}
	r := storesink.New(s)
	if _, _, err := r.Get(t.Context(), "cert/a"); err == nil {
		t.Error("it reads others' records")
	}
	if _, err := r.Swap(t.Context(), "cert/b", 0, []byte("v")); err == nil {
		t.Error("it writes others' records")
	}
	var errs []error
	for key, err := range r.Keys(t.Context(), "") {
		if key != "" {
			t.Errorf("it lists %s", key)
		}
		errs = append(errs, err)
	}
	if !slices.ContainsFunc(errs, func(err error) bool { return err != nil }) {
		t.Error("a list of all is no error")
	}
}
