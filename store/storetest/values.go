package storetest

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-tls/lockstep/store"
)

func absent(t *testing.T, s suite) {
	s.hasNot("a/x")
	s.conflict("a/x", 7, []byte("v"))
	s.conflict("a/x", 7, nil)
	s.hasNot("a/x")
	s.del("a/x", 0) // nothing to delete is what was asked for
	s.hasNot("a/x")
	s.put("a/x", 0, "v")
	s.hasNot("a/") // a prefix is not a key
	s.hasNot("a/xx")
}

func swap(t *testing.T, s suite) {
	r1 := s.put("a/x", 0, "1")
	s.has("a/x", "1", r1)
	s.conflict("a/x", 0, []byte("2"))
	s.conflict("a/x", r1+1, []byte("2"))
	s.has("a/x", "1", r1)
	r2 := s.put("a/x", r1, "2")
	s.has("a/x", "2", r2)
	s.conflict("a/x", r1, []byte("3"))
	s.conflict("a/x", r1, nil)
	r3 := s.put("a/x", r2, "2") // the same value is a change too
	s.has("a/x", "2", r3)
	other := s.put("a/y", 0, "1")
	s.conflict("a/x", other, []byte("3")) // the revision of another key
	s.has("a/x", "2", r3)
}

func deletes(t *testing.T, s suite) {
	r1 := s.put("a/x", 0, "1")
	if gone := s.del("a/x", r1); gone <= r1 {
		t.Fatalf("the revision of a delete is %d, after %d", gone, r1)
	}
	s.hasNot("a/x")
	s.conflict("a/x", r1, []byte("2"))
	r2 := s.put("a/x", 0, "")
	s.has("a/x", "", r2)
	s.conflict("a/x", 0, []byte("2"))
	s.del("a/x", r2)
	s.hasNot("a/x")
}

func revisions(t *testing.T, s suite) {
	var last store.Rev
	for range 5 { // deleted and made again, and other keys between
		for _, key := range []string{"a/x", "b/y"} {
			rev := s.put(key, 0, "v")
			if rev <= last {
				t.Fatalf("revision %d of %s after %d: it repeats or goes back", rev, key, last)
			}
			if last = s.del(key, rev); last <= rev {
				t.Fatalf("revision %d of the delete of %s after %d", last, key, rev)
			}
		}
	}
}

func copies(t *testing.T, s suite) {
	val := []byte("mine")
	rev, err := s.Swap(t.Context(), "a/x", 0, val)
	if err != nil {
		t.Fatal(err)
	}
	copy(val, "XXXX")
	s.has("a/x", "mine", rev)
	got, _, err := s.Get(t.Context(), "a/x")
	if err != nil {
		t.Fatal(err)
	}
	copy(got, "XXXX")
	_ = append(got, "more"...)
	s.has("a/x", "mine", rev)
}

func big(t *testing.T, s suite) {
	val := string(bytes.Repeat([]byte{0, 1, 0xff, '\n'}, 100<<10)) // 400 KiB
	rev := s.put("a/big", 0, val)
	s.has("a/big", val, rev)
	rev = s.put("a/big", rev, "small")
	s.has("a/big", "small", rev)
	long := "a/" + strings.Repeat("x", 250)
	s.has(long, "v", s.put(long, 0, "v"))
}

func now(t *testing.T, s suite) {
	var last time.Time
	for range 3 {
		at, err := s.Now(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if at.Before(last) || at.IsZero() {
			t.Fatalf("Now = %v after %v", at, last)
		}
		last = at
	}
}

func cancelled(t *testing.T, s suite) {
	rev := s.put("a/x", 0, "v")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	check := func(what string, err error) {
		t.Helper()
		if !errors.Is(err, context.Canceled) || errors.Is(err, store.ErrNotExist) || errors.Is(err, store.ErrConflict) {
			t.Errorf("%s = %v, want context.Canceled and no certainty", what, err)
		}
	}
	_, _, err := s.Get(ctx, "a/none")
	check("Get", err)
	_, err = s.Swap(ctx, "a/none", 1, []byte("w"))
	check("Swap", err)
	_, _, err = s.Changed(ctx, "", 0)
	check("Changed", err)
	_, err = s.Now(ctx)
	check("Now", err)
	n := 0
	for _, err := range s.Keys(ctx, "") {
		check("Keys", err)
		n++
	}
	if n != 1 {
		t.Errorf("Keys yielded %d times, want its error once", n)
	}
	s.has("a/x", "v", rev)
}
