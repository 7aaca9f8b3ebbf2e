package guard

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-tls/lockstep/internal/testkit"
	"github.com/lockstep-tls/lockstep/store"
	"github.com/lockstep-tls/lockstep/store/memory"
	"github.com/lockstep-tls/lockstep/store/storetest"
)

func TestAFreezableStoreKeepsTheContract(t *testing.T) {
	storetest.Run(t, func(*testing.T) store.Store { return NewFreezable(memory.New(), storetest.Clear{}) })
}

func TestAFrozenStoreRefusesABatch(t *testing.T) {
	f := NewFreezable(memory.New(), storetest.Clear{})
	testkit.Check(t, f.Freeze(t.Context(), Notice{By: "me", Why: "moving", At: time.Now()}))
	changes := []store.Change{{Key: "cert/a", Val: []byte("v")}, {Key: "roster/b", Val: []byte("v")}, {Key: "cert/c"}}
	out := store.SwapAll(t.Context(), f, changes)
	for i, refused := range []bool{true, false, true} {
		if errors.Is(out[i].Err, store.ErrFrozen) != refused || !refused && out[i].Err != nil {
			t.Errorf("%s: %v", changes[i].Key, out[i].Err)
		}
	}
	testkit.Check(t, f.Thaw(t.Context()))
	for _, o := range store.SwapAll(t.Context(), f, changes[:1]) {
		testkit.Check(t, o.Err)
	}
}

// overtakenStore is one behind whose first change of a certificate something else happens.
type overtakenStore struct {
	store.Store
	behind func() error
	broken bool // whether it is frozen cannot be read
}

func (s *overtakenStore) Swap(ctx context.Context, key string, old store.Rev, val []byte) (store.Rev, error) {
	rev, err := s.Store.Swap(ctx, key, old, val)
	if err == nil && key == "cert/a" {
		err = s.behind()
	}
	return rev, err
}

func (s *overtakenStore) Get(ctx context.Context, key string) ([]byte, store.Rev, error) {
	if s.broken {
		return nil, 0, errBroken
	}
	return s.Store.Get(ctx, key)
}

// A copy may lack what is written while the store freezes: it is not acknowledged, though it may be
// there.
func TestABatchThatAFreezeOvertakesIsNotAcknowledged(t *testing.T) {
	for _, want := range []string{"a copy may lack it", "is not known"} {
		s := &overtakenStore{Store: memory.New()}
		s.behind = func() error {
			if s.broken = want == "is not known"; s.broken {
				return nil
			}
			f := NewFreezable(s.Store, storetest.Clear{}) // another process
			return f.Freeze(t.Context(), Notice{By: "me", Why: "moving", At: time.Now()})
		}
		out := store.SwapAll(t.Context(), NewFreezable(store.OneByOne(s), storetest.Clear{}), []store.Change{
			{Key: "cert/a", Val: []byte("v")}, {Key: "roster/b", Val: []byte("v")},
			{Key: "cert/old", Old: 7, Val: []byte("v")}})
		if err := out[0].Err; err == nil || !strings.Contains(err.Error(), want) || errors.Is(err, store.ErrFrozen) ||
			errors.Is(err, store.ErrConflict) || out[0].Rev != 0 {
			t.Errorf("%+v, want an unknown outcome: %q", out[0], want)
		}
		testkit.Check(t, out[1].Err)
		if !errors.Is(out[2].Err, store.ErrConflict) {
			t.Errorf("what is certain is said otherwise: %v", out[2].Err)
		}
	}
}

func TestAFrozenStoreRefusesChanges(t *testing.T) {
	inner := memory.New()
	// two replicas
	a, b := NewFreezable(inner, storetest.Clear{}), NewFreezable(inner, storetest.Clear{})
	testkit.Check(t, storetest.Put(t, a, "cert/x", "1"))
	testkit.Check(t, a.Freeze(t.Context(), Notice{By: "me", Why: "it moves", At: time.Now()}))
	testkit.Check(t, a.Freeze(t.Context(), Notice{By: "another"}))
	for _, f := range []*Freezable{a, b} {
		for key, val := range map[string]string{
			"cert/x": "2", "cert/y": "1", "ring/default": "r", "store/lost": "x", "rosters": "x",
		} {
			if err := storetest.Put(t, f, key, val); !errors.Is(err, store.ErrFrozen) ||
				!strings.Contains(err.Error(), "me") || !strings.Contains(err.Error(), "it moves") {
				t.Errorf("%s: %v", key, err)
			}
		}
		if err := storetest.Put(t, f, "cert/x", ""); !errors.Is(err, store.ErrFrozen) {
			t.Errorf("a delete: %v", err)
		}
		testkit.Check(t, storetest.Put(t, f, "roster/default/r1", "nodes"))
		testkit.Check(t, storetest.Put(t, f, "seal/replica/r1", "keys"))
	}
	testkit.Check(t, b.Thaw(t.Context()))
	testkit.Check(t, b.Thaw(t.Context()))
	testkit.Check(t, storetest.Put(t, a, "cert/x", "2"))
}

var errBroken = errors.New("broken")
