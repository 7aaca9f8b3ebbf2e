package stores

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lockstep-tls/lockstep/internal/testkit"
	"github.com/lockstep-tls/lockstep/seal"
	"github.com/lockstep-tls/lockstep/store"
	"github.com/lockstep-tls/lockstep/store/storetest"
	"github.com/lockstep-tls/lockstep/test/fleet"
)

// The real servers, one after the other, under writes: what was acknowledged is in the next store,
// sealed as it was. A copy that breaks off before it froze or after leaves a source that can be
// used.
func TestACopyBetweenKindsOfStores(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	f := fleet.ForTest(t)
	redis, err := f.Redis(ctx, "redis")
	testkit.Check(t, err)
	nats, err := f.NATS(ctx, "nats", 1)
	testkit.Check(t, err)
	keys := seal.File(filepath.Join(t.TempDir(), KeyFile))
	places := []string{filepath.Join(t.TempDir(), "first"), "redis://" + redis.Addr,
		"nats://" + nats.Addrs() + "?replicas=1", filepath.Join(t.TempDir(), "last")}
	raw, err := Open(ctx, places[0])
	testkit.Check(t, err)
	from, err := Unlock(ctx, raw, keys, true)
	testkit.Check(t, err)
	for i := range 300 {
		testkit.Check(t, storetest.Put(t, from, fmt.Sprintf("cert/%d", i), strings.Repeat("v", 10*i)+"."))
	}
	testkit.Check(t, storetest.Put(t, from, "cert/7", "")) // and what is gone stays so
	for i, place := range places[1:] {
		kind := fmt.Sprintf("%s to %s", strings.Split(places[i], "://")[0], strings.Split(place, "://")[0])
		to, err := Open(ctx, place)
		testkit.Check(t, err)
		c := Copy{From: from, Name: kind, To: to, Tell: func(Progress) {}, Freeze: func(ctx context.Context) error {
			return from.Freeze(ctx, "test", "it moves", time.Now())
		}}

		// It breaks off half way.
		c.From = failing{from, 100}
		if _, err := c.Run(ctx); !errors.Is(err, errBroken) {
			t.Fatalf("%s: %v", kind, err)
		}
		testkit.Check(t, storetest.Put(t, from, "cert/between", kind))
		// It is interrupted when it has frozen.
		c.From = from
		interrupted, stop := context.WithCancel(ctx)
		c.Tell = func(p Progress) {
			if p.Step == "frozen" {
				stop()
			}
		}
		if _, err := c.Run(interrupted); !errors.Is(err, context.Canceled) {
			t.Fatalf("%s: %v", kind, err)
		}
		if err := storetest.Put(t, from, "cert/between", "x"); !errors.Is(err, ErrFrozen) {
			t.Errorf("%s: the source is not frozen: %v", kind, err)
		}
		again, err := Open(ctx, place)
		if err == nil {
			if _, err = Unlock(ctx, again, keys, true); err == nil || !strings.Contains(err.Error(), "has not ended") {
				t.Errorf("%s: half a copy is opened: %v", kind, err)
			}
		}
		testkit.Check(t, from.Thaw(ctx))
		testkit.Check(t, storetest.Put(t, from, "cert/between", kind))

		// It runs to its end, while others write.
		c.Tell = func(Progress) {}
		acked := writes(ctx, t, from)
		n, err := c.Run(ctx)
		last := acked()
		if err != nil {
			t.Fatalf("%s: %v", kind, err)
		}
		testkit.Check(t, storetest.Put(t, from, "roster/default/r", "passes"))
		a, b := content(t, from.Raw), content(t, to)
		delete(a, "roster/default/r")
		if !maps.Equal(a, b) || n != len(a) || n < 300 {
			t.Errorf("%s: %d records copied; %d and %d are there", kind, n, len(a), len(b))
		}
		if err := storetest.Put(t, from, "cert/between", "x"); !errors.Is(err, ErrFrozen) {
			t.Errorf("%s: the source is not frozen any more: %v", kind, err)
		}
		testkit.Check(t, from.Close())
		if from, err = Unlock(ctx, to, keys, true); err != nil {
			t.Fatalf("%s: %v", kind, err)
		}
		if err := storetest.Put(t, from, "cert/between", "x"); !errors.Is(err, ErrFrozen) {
			t.Errorf("%s: the copy is not frozen: %v", kind, err)
		}
		testkit.Check(t, from.Thaw(ctx))
		values := content(t, from) // opened with the key
		for key, val := range last {
			if values[key] < val {
				t.Errorf("%s: %s is %s, %s was acknowledged", kind, key, values[key], val)
			}
		}
		if _, there := values["cert/7"]; there ||
			values["cert/299"] != strings.Repeat("v", 2990)+"." || values["cert/between"] != kind {
			t.Errorf("%s: other values", kind)
		}
		t.Logf("%s: %d records, %d of them written during the copy", kind, n, len(last))
		testkit.Check(t, storetest.Put(t, from, "cert/between", "x"))
	}
	testkit.Check(t, from.Close())
}

// writes writes records of its own until the store is frozen, and returns what was acknowledged
// last.
func writes(ctx context.Context, t *testing.T, s store.Store) func() map[string]string {
	const writers = 4
	var wg sync.WaitGroup
	acked := make([]map[string]string, writers)
	for w := range writers {
		acked[w] = map[string]string{}
		wg.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				key, val := fmt.Sprintf("cert/w%d-%d", w, n%50), fmt.Sprintf("%09d", n)
				_, rev, err := s.Get(ctx, key)
				if err != nil && !errors.Is(err, store.ErrNotExist) {
					t.Error(err)
					return
				}
				if _, err := s.Swap(ctx, key, rev, []byte(val)); err == nil {
					acked[w][key] = val
				} else if errors.Is(err, ErrFrozen) {
					return
				} else if !strings.Contains(err.Error(), "while") {
					t.Error(err)
					return
				}
				time.Sleep(5 * time.Millisecond)
			}
		})
	}
	return func() map[string]string {
		wg.Wait()
		all := map[string]string{}
		for _, m := range acked {
			maps.Copy(all, m)
		}
		return all
	}
}
