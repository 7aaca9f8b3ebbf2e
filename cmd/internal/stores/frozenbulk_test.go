package stores

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-tls/lockstep/store"
	"github.com/lockstep-tls/lockstep/store/memory"
	"github.com/lockstep-tls/lockstep/store/storetest"
)

func TestAFreezableStoreKeepsTheContract(t *testing.T) {
	storetest.Run(t, func(*testing.T) store.Store { return &Freezable{Store: memory.New(), sealer: clearly{}} })
}

func TestAFrozenStoreRefusesABatch(t *testing.T) {
	f := &Freezable{Store: memory.New(), sealer: clearly{}}
	check(t, f.Freeze(t.Context(), Notice{By: "me", Why: "moving", At: time.Now()}))
	changes := []store.Change{{Key: "cert/a", Val: []byte("v")}, {Key: "roster/b", Val: []byte("v")}, {Key: "cert/c"}}
	out := store.SwapAll(t.Context(), f, changes)
	for i, refused := range []bool{true, false, true} {
		if errors.Is(out[i].Err, ErrFrozen) != refused || !refused && out[i].Err != nil {
			t.Errorf("%s: %v", changes[i].Key, out[i].Err)
		}
	}
	check(t, f.Thaw(t.Context()))
	for _, o := range store.SwapAll(t.Context(), f, changes[:1]) {
		check(t, o.Err)
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

// A copy may lack what is written while the store freezes: it is not acknowledged, though it may be there.
func TestABatchThatAFreezeOvertakesIsNotAcknowledged(t *testing.T) {
	for _, want := range []string{"a copy may lack it", "is not known"} {
		s := &overtakenStore{Store: memory.New()}
		s.behind = func() error {
			if s.broken = want == "is not known"; s.broken {
				return nil
			}
			f := Freezable{Store: s.Store, sealer: clearly{}} // another process
			return f.Freeze(t.Context(), Notice{By: "me", Why: "moving", At: time.Now()})
		}
		out := store.SwapAll(t.Context(), &Freezable{Store: s, sealer: clearly{}}, []store.Change{{Key: "cert/a", Val: []byte("v")}, {Key: "roster/b", Val: []byte("v")}, {Key: "cert/old", Old: 7, Val: []byte("v")}})
		if err := out[0].Err; err == nil || !strings.Contains(err.Error(), want) || errors.Is(err, ErrFrozen) || errors.Is(err, store.ErrConflict) || out[0].Rev != 0 {
			t.Errorf("%+v, want an unknown outcome: %q", out[0], want)
		}
		check(t, out[1].Err)
		if !errors.Is(out[2].Err, store.ErrConflict) {
			t.Errorf("what is certain is said otherwise: %v", out[2].Err)
		}
	}
}
