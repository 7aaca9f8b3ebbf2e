package stores

import (
	"errors"
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
