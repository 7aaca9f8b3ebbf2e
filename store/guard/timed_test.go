package guard_test

import (
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lockstep-tls/lockstep/store"
	"github.com/lockstep-tls/lockstep/store/guard"
	"github.com/lockstep-tls/lockstep/store/memory"
	"github.com/lockstep-tls/lockstep/store/storetest"
)

func TestATimedStoreKeepsTheContract(t *testing.T) {
	storetest.Run(t, func(*testing.T) store.Store {
		return guard.NewTimed(memory.New(), func(string, time.Duration) {})
	})
}

func TestEachKindOfCallIsTimedAndNotWhatTheCallerDoesMeanwhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var ops []string
		s := guard.NewTimed(memory.New(), func(op string, d time.Duration) {
			mu.Lock()
			defer mu.Unlock()
			ops = append(ops, op)
			if d != 0 {
				t.Errorf("%s took %s of the caller's time", op, d)
			}
		})
		ctx := t.Context()
		if _, err := s.Swap(ctx, "a/b", 0, []byte("1")); err != nil {
			t.Fatal(err)
		}
		s.SwapAll(ctx, []store.Change{{Key: "a/c", Val: []byte("2")}})
		s.Get(ctx, "a/b")
		s.GetAll(ctx, []string{"a/b"})
		s.Changed(ctx, "a/", 0)
		s.Now(ctx)
		s.Recreate(ctx)
		n := 0
		for range s.Keys(ctx, "a/") {
			n++
			time.Sleep(time.Hour)
		}
		for range s.KeysAfter(ctx, "a/", "a/b") {
			break
		}
		slices.Sort(ops)
		want := slices.Sorted(slices.Values(guard.Ops))
		if got := slices.Compact(ops); n != 2 || !slices.Equal(got, want) {
			t.Errorf("%v of %d keys, want %v", got, n, want)
		}
	})
}
