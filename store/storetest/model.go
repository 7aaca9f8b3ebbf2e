package storetest

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/lockstep-tls/lockstep/store"
)

// model does random things to the store and to a map, and compares all of both after each.
func model(t *testing.T, s suite) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	type value struct {
		val string
		rev store.Rev
	}
	live := map[string]value{}
	lastChange := map[string]store.Rev{}
	heads := []store.Rev{0}
	names := []string{"a/x", "a/y", "a/x/y", "a", "b/x", "b/="}
	for i := range 300 {
		key := names[rnd.IntN(len(names))]
		old := live[key].rev
		if rnd.IntN(4) == 0 { // a revision of the past or of another key, or none
			old = heads[rnd.IntN(len(heads))]
		}
		var val []byte
		if rnd.IntN(3) > 0 {
			val = fmt.Append(nil, i)
		}
		rev, err := s.Swap(t.Context(), key, old, val)
		switch _, was := live[key]; {
		case old != live[key].rev:
			if !errors.Is(err, store.ErrConflict) {
				t.Fatalf("step %d: Swap(%q, %d) = %v, want ErrConflict", i, key, old, err)
			}
		case err != nil:
			t.Fatalf("step %d: Swap(%q, %d): %v", i, key, old, err)
		case val == nil && !was:
		case val == nil:
			delete(live, key)
			lastChange[key] = rev
			heads = append(heads, rev)
		default:
			live[key] = value{string(val), rev}
			lastChange[key] = rev
			heads = append(heads, rev)
		}

		for _, name := range names {
			if v, ok := live[name]; ok {
				s.has(name, v.val, v.rev)
			} else {
				s.hasNot(name)
			}
		}
		if got, want := s.keys(t.Context(), ""), slices.Sorted(maps.Keys(live)); !slices.Equal(got, want) {
			t.Fatalf("step %d: Keys = %q, want %q", i, got, want)
		}
		since := heads[rnd.IntN(len(heads))]
		var want []string
		for name, at := range lastChange {
			if at > since && strings.HasPrefix(name, "a/") {
				want = append(want, name)
			}
		}
		s.changedSince("a/", since, want...)
	}
}
