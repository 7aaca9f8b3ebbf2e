package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/lockstep-tls/lockstep/store"
)

func bulkSwap(t *testing.T, s suite) {
	old := s.put("a/old", 0, "1")
	gone := s.put("a/gone", 0, "1")
	head := s.changedSince("a/", 0, "a/old", "a/gone")
	val := []byte("mine")
	changes := []store.Change{
		{Key: "a/new", Val: val},
		{Key: "a/old", Old: old, Val: []byte("2")},
		{Key: "a/old", Old: old, Val: []byte("3")}, // second of its key
		{Key: "a/gone", Old: gone},
		{Key: "a/none"}, // nothing to delete
		{Key: "a/none", Old: old, Val: []byte("v")},
		{Key: "a/empty", Val: []byte{}},
		{Key: "a/twice", Val: []byte("1")},
		{Key: "a/twice", Val: []byte("2")},
	}
	out := store.SwapAll(t.Context(), s.Store, changes)
	copy(val, "XXXX") // values belong to the caller
	if len(out) != len(changes) {
		t.Fatalf("%d outcomes of %d changes", len(out), len(changes))
	}
	seen := map[store.Rev]bool{}
	for i, conflict := range []bool{false, false, true, false, false, true, false, false, true} {
		if got := errors.Is(out[i].Err, store.ErrConflict); got != conflict || !conflict && out[i].Err != nil {
			t.Errorf("%d: %+v: %v, want conflict: %v", i, changes[i], out[i].Err, conflict)
		}
		if conflict || changes[i].Key == "a/none" {
			continue
		}
		if out[i].Rev <= head || seen[out[i].Rev] {
			t.Errorf("%d: %+v: revision %d after %d: it repeats or goes back", i, changes[i], out[i].Rev, head)
		}
		seen[out[i].Rev] = true
	}
	s.has("a/new", "mine", out[0].Rev)
	s.has("a/old", "2", out[1].Rev)
	s.hasNot("a/gone")
	s.hasNot("a/none")
	s.has("a/empty", "", out[6].Rev)
	s.has("a/twice", "1", out[7].Rev)
	s.changedSince("a/", head, "a/new", "a/old", "a/gone", "a/empty", "a/twice")
	if rev := s.put("a/last", 0, "v"); seen[rev] {
		t.Errorf("revision %d was given before", rev)
	}
	if out := store.SwapAll(t.Context(), s.Store, nil); len(out) != 0 {
		t.Errorf("nothing has %d outcomes", len(out))
	}
}

func bulkGet(t *testing.T, s suite) {
	x, e := s.put("a/x", 0, "1"), s.put("a/e", 0, "")
	got := store.GetAll(t.Context(), s.Store, []string{"a/x", "a/none", "a/e", "a/x"})
	for i, want := range []store.Value{
		{Val: []byte("1"), Rev: x}, {}, {Val: []byte{}, Rev: e}, {Val: []byte("1"), Rev: x},
	} {
		switch {
		case want.Rev == 0 && !errors.Is(got[i].Err, store.ErrNotExist):
			t.Errorf("%d: %+v, want ErrNotExist", i, got[i])
		case want.Rev != 0 && (got[i].Err != nil || got[i].Rev != want.Rev ||
			!bytes.Equal(got[i].Val, want.Val) || got[i].Val == nil):
			t.Errorf("%d: %+v, want %+v", i, got[i], want)
		}
	}
	copy(got[0].Val, "X")
	s.has("a/x", "1", x)
	if got := store.GetAll(t.Context(), s.Store, nil); len(got) != 0 {
		t.Errorf("no keys have %d values", len(got))
	}
}

// bulkMany is more than a driver takes at once.
func bulkMany(t *testing.T, s suite) {
	const n = 2*store.MaxBulk + 7
	var keys []string
	var changes []store.Change
	for i := range n {
		keys = append(keys, fmt.Sprintf("a/%05d", i))
		changes = append(changes, store.Change{Key: keys[i], Val: fmt.Append(nil, i)})
	}
	out := store.SwapAll(t.Context(), s.Store, changes)
	revs := map[store.Rev]bool{}
	for i, o := range out {
		if o.Err != nil || revs[o.Rev] {
			t.Fatalf("%d: %+v", i, o)
		}
		revs[o.Rev] = true
	}
	for i, v := range store.GetAll(t.Context(), s.Store, keys) {
		if v.Err != nil || string(v.Val) != fmt.Sprint(i) || v.Rev != out[i].Rev {
			t.Fatalf("%s: %+v, want %d at %d", keys[i], v, i, out[i].Rev)
		}
	}
	s.changedSince("a/", 0, slices.Clone(keys)...)
	for i := range changes {
		changes[i].Old, changes[i].Val = out[i].Rev, nil
	}
	for i, o := range store.SwapAll(t.Context(), s.Store, changes) {
		if o.Err != nil {
			t.Fatalf("deleting %d: %v", i, o.Err)
		}
	}
	if left := s.keys(t.Context(), ""); len(left) != 0 {
		t.Fatalf("%d keys are left", len(left))
	}
}

func keysAfter(t *testing.T, s suite) {
	var want []string
	for i := range 600 {
		want = append(want, fmt.Sprintf("a/%03d", i))
		s.put(want[i], 0, "v")
	}
	s.put("Z", 0, "v")
	s.put("b/x", 0, "v")
	for last, left := range map[string][]string{
		"": want, "a/": want, "a/000": want[1:], "a/0000": want[1:], "a/298": want[299:],
		"a/599": nil, "a/z": nil, "b": nil, "A": want,
	} {
		var got []string
		for key, err := range s.KeysAfter(t.Context(), "a/", last) {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, key)
		}
		if !slices.Equal(got, left) {
			t.Errorf("after %q: %d keys from %.1q, want %d", last, len(got), got, len(left))
		}
	}
	for key, err := range s.KeysAfter(t.Context(), "a/", "a/100") { // a consumer may leave early
		if key != "a/101" || err != nil {
			t.Errorf("%q %v", key, err)
		}
		break
	}
}

func bulkCancelled(t *testing.T, s suite) {
	rev := s.put("a/x", 0, "v")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, v := range store.GetAll(ctx, s.Store, []string{"a/x", "a/none"}) {
		if !errors.Is(v.Err, context.Canceled) || errors.Is(v.Err, store.ErrNotExist) {
			t.Errorf("GetAll: %+v", v)
		}
	}
	for _, o := range store.SwapAll(ctx, s.Store,
		[]store.Change{{Key: "a/x", Old: rev, Val: []byte("w")}, {Key: "a/x", Old: 7}}) {
		if !errors.Is(o.Err, context.Canceled) || errors.Is(o.Err, store.ErrConflict) {
			t.Errorf("SwapAll: %+v", o)
		}
	}
	n := 0
	for _, err := range s.KeysAfter(ctx, "a/", "a/") {
		if n++; !errors.Is(err, context.Canceled) {
			t.Errorf("KeysAfter: %v", err)
		}
	}
	if n != 1 {
		t.Errorf("KeysAfter yielded %d times, want its error once", n)
	}
	s.has("a/x", "v", rev)
}

// bulkAmongWriters has batches and single swaps of the same keys at once: each key has one creator.
func bulkAmongWriters(t *testing.T, s suite) {
	const writers, keys = 4, 50
	won := make(chan string, writers*keys)
	done := make(chan struct{})
	for w := range writers {
		go func() {
			defer func() { done <- struct{}{} }()
			var changes []store.Change
			for i := range keys {
				changes = append(changes, store.Change{Key: fmt.Sprintf("a/%d", i), Val: fmt.Append(nil, w)})
			}
			if w%2 == 0 {
				for i, o := range store.SwapAll(t.Context(), s.Store, changes) {
					if o.Err == nil {
						won <- changes[i].Key
					} else if !errors.Is(o.Err, store.ErrConflict) {
						t.Error(o.Err)
					}
				}
				return
			}
			for _, c := range changes {
				if _, err := s.Swap(t.Context(), c.Key, 0, c.Val); err == nil {
					won <- c.Key
				} else if !errors.Is(err, store.ErrConflict) {
					t.Error(err)
				}
			}
		}()
	}
	for range writers {
		<-done
	}
	close(won)
	creators := map[string]int{}
	for key := range won {
		creators[key]++
	}
	for i := range keys {
		if key := fmt.Sprintf("a/%d", i); creators[key] != 1 {
			t.Errorf("%s has %d creators", key, creators[key])
		}
	}
}

// recreated is about a store that has lost nothing. What is lost is each driver's own to test.
func recreated(t *testing.T, s suite) {
	rev := s.put("a/x", 0, "v")
	head := s.changedSince("a/", 0, "a/x")
	for range 2 {
		if err := s.Recreate(t.Context()); err != nil {
			t.Fatalf("Recreate of a store that has lost nothing: %v", err)
		}
	}
	s.has("a/x", "v", rev)
	s.changedSince("a/", head)
	if again := s.put("a/x", rev, "w"); again <= head {
		t.Errorf("revision %d after %d", again, head)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Recreate(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Recreate with a cancelled context: %v", err)
	}
}
