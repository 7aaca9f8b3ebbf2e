package store_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lockstep-tls/lockstep/store"
	"github.com/lockstep-tls/lockstep/store/memory"
)

// narrow takes its time, and counts the changes that are under way.
type narrow struct {
	store.Store
	now, most atomic.Int32
}

func (s *narrow) Swap(ctx context.Context, key string, old store.Rev, val []byte) (store.Rev, error) {
	n := s.now.Add(1)
	defer s.now.Add(-1)
	for most := s.most.Load(); n > most && !s.most.CompareAndSwap(most, n); most = s.most.Load() {
	}
	time.Sleep(time.Millisecond)
	return s.Store.Swap(ctx, key, old, val)
}

// Six archives of an import at once must not put six times as many changes before one of a
// rotation.
func TestBatchesShareTheBoundOfWhatIsUnderWay(t *testing.T) {
	s := &narrow{Store: memory.New()}
	var wg sync.WaitGroup
	for i := range 6 {
		var changes []store.Change
		for j := range 200 {
			changes = append(changes, store.Change{Key: fmt.Sprintf("cert/%d-%d", i, j), Val: []byte("v")})
		}
		wg.Go(func() {
			for _, o := range store.SwapAll(t.Context(), store.OneByOne(s), changes) {
				if o.Err != nil {
					t.Error(o.Err)
				}
			}
		})
	}
	wg.Wait()
	if n := s.most.Load(); n > 16 || n < 2 {
		t.Errorf("%d changes were under way at once", n)
	}
}
