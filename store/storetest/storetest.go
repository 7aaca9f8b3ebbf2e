// Package storetest is the contract of [store.Store] as one suite of tests, which every driver
// passes.
package storetest

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/lockstep-tls/lockstep/store"
)

// Run checks the whole contract. open returns a store that is empty and that nobody else writes
// to; it registers its own clean-up with t.
func Run(t *testing.T, open func(t *testing.T) store.Store) {
	for _, c := range []struct {
		name string
		test func(t *testing.T, s suite)
	}{
		{"what is absent is certain", absent},
		{"swap only from the expected revision", swap},
		{"nil deletes, empty is a value", deletes},
		{"revisions never repeat", revisions},
		{"values belong to the caller", copies},
		{"big values", big},
		{"changed tells each key once", changed},
		{"changed tells what was deleted", changedDeleted},
		{"changed minds the prefix", changedPrefix},
		{"keys in byte order under the prefix", keys},
		{"keys while the consumer writes", keysWhileWriting},
		{"one creator wins", oneCreator},
		{"no increment is lost", noneLost},
		{"changed misses nothing among writers", changedAmongWriters},
		{"now goes forward", now},
		{"a cancelled context is no answer", cancelled},
		{"agrees with a model", model},
		{"many swaps, each on its own", bulkSwap},
		{"many reads", bulkGet},
		{"more than a batch", bulkMany},
		{"keys from the middle", keysAfter},
		{"batches and single swaps", bulkAmongWriters},
		{"a cancelled context is no answer of a batch", bulkCancelled},
		{"what was not lost stays", recreated},
	} {
		t.Run(c.name, func(t *testing.T) { c.test(t, suite{t, open(t)}) })
	}
}

// suite is a store whose unexpected errors end the test.
type suite struct {
	t *testing.T
	store.Store
}

func (s suite) put(key string, old store.Rev, val string) store.Rev {
	s.t.Helper()
	rev, err := s.Swap(s.t.Context(), key, old, []byte(val))
	if err != nil {
		s.t.Fatalf("Swap(%q, %d): %v", key, old, err)
	}
	if rev <= old {
		s.t.Fatalf("Swap(%q, %d) returned revision %d, which did not grow", key, old, rev)
	}
	return rev
}

func (s suite) del(key string, old store.Rev) store.Rev {
	s.t.Helper()
	rev, err := s.Swap(s.t.Context(), key, old, nil)
	if err != nil {
		s.t.Fatalf("Swap(%q, %d, nil): %v", key, old, err)
	}
	return rev
}

func (s suite) conflict(key string, old store.Rev, val []byte) {
	s.t.Helper()
	if _, err := s.Swap(s.t.Context(), key, old, val); !errors.Is(err, store.ErrConflict) {
		s.t.Fatalf("Swap(%q, %d) = %v, want ErrConflict", key, old, err)
	}
}

func (s suite) has(key, want string, wantRev store.Rev) {
	s.t.Helper()
	val, rev, err := s.Get(s.t.Context(), key)
	if err != nil || string(val) != want || rev != wantRev {
		s.t.Fatalf("Get(%q) = %.40q, %d, %v, want %.40q, %d", key, val, rev, err, want, wantRev)
	}
}

func (s suite) hasNot(key string) {
	s.t.Helper()
	if val, rev, err := s.Get(s.t.Context(), key); !errors.Is(err, store.ErrNotExist) {
		s.t.Fatalf("Get(%q) = %.40q, %d, %v, want ErrNotExist", key, val, rev, err)
	}
}

// changedSince checks that Changed returns exactly want, in any order, and returns head.
func (s suite) changedSince(prefix string, since store.Rev, want ...string) store.Rev {
	s.t.Helper()
	got, head, err := s.Changed(s.t.Context(), prefix, since)
	if err != nil {
		s.t.Fatalf("Changed(%q, %d): %v", prefix, since, err)
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		s.t.Fatalf("Changed(%q, %d) = %q, want %q", prefix, since, got, want)
	}
	if head < since {
		s.t.Fatalf("Changed(%q, %d) went back to %d", prefix, since, head)
	}
	return head
}

func (s suite) keys(ctx context.Context, prefix string) []string {
	s.t.Helper()
	var got []string
	for key, err := range s.Keys(ctx, prefix) {
		if err != nil {
			s.t.Fatalf("Keys(%q): %v", prefix, err)
		}
		got = append(got, key)
	}
	return got
}
