package stores

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/lockstep-tls/lockstep/internal/testkit"
	"github.com/lockstep-tls/lockstep/seal"
	"github.com/lockstep-tls/lockstep/seal/custody"
	"github.com/lockstep-tls/lockstep/store"
	"github.com/lockstep-tls/lockstep/store/guard"
	"github.com/lockstep-tls/lockstep/store/memory"
	"github.com/lockstep-tls/lockstep/store/storetest"
)

func TestMain(m *testing.M) {
	// A pool whose server was away looks for it once a second, and sees only then that it was
	// closed.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/redis/go-redis/v9/internal/pool.(*ConnPool).tryDial"))
}

func content(t *testing.T, s store.Store) map[string]string {
	t.Helper()
	all := map[string]string{}
	for key, err := range s.Keys(t.Context(), "") {
		testkit.Check(t, err)
		val, _, err := s.Get(t.Context(), key)
		testkit.Check(t, err)
		all[key] = string(val)
	}
	return all
}

func TestCopyFollowsChangesAndFreezes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		from, to := guard.NewFreezable(memory.New(), storetest.Clear{}), memory.New()
		for i := range 500 {
			testkit.Check(t, storetest.Put(t, from, fmt.Sprintf("cert/%d", i), "0"))
		}
		stop := make(chan struct{})
		refused := 0
		go func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				case <-time.After(time.Millisecond):
				}
				val := fmt.Sprint(i)
				if i%7 == 0 {
					val = ""
				}
				if err := storetest.Put(t, from, fmt.Sprintf("cert/%d", i%500), val); errors.Is(err, store.ErrFrozen) {
					refused++
				} else if err != nil {
					t.Error(err)
				}
				// never quiet
				testkit.Check(t, storetest.Put(t, from, "roster/default/r1", fmt.Sprint(i)))
			}
		}()
		time.Sleep(100 * time.Millisecond)
		var told []Progress
		slow := Reader{slowly{from}}
		c := Copy{From: slow, Name: "here", To: to, Tell: func(p Progress) { told = append(told, p) },
			Freeze: func(ctx context.Context) error {
				return from.Freeze(ctx, guard.Notice{By: "copy"})
			}}
		n, err := c.Run(t.Context())
		close(stop)
		testkit.Check(t, err)
		synctest.Wait()
		a, b := content(t, from), content(t, to)
		delete(a, "roster/default/r1")
		delete(b, "roster/default/r1")
		if !maps.Equal(a, b) || n < 400 || refused == 0 || b["store/frozen"] == "" || b[guard.CopyingKey] != "" {
			t.Errorf("%d records (%d and %d), %d refused", n, len(a), len(b), refused)
		}
		if last := told[len(told)-1]; last.Step != "verified" {
			t.Errorf("%+v", last)
		}
	})
}

// lagging has each write arrive late, by less or more than a copy waits.
type lagging struct{ store.Store }

func (l lagging) Swap(ctx context.Context, key string, old store.Rev, val []byte) (store.Rev, error) {
	if !store.PrefixOf(key).WhileFrozen {
		time.Sleep(rand.N(5 * quiet))
	}
	return l.Store.Swap(ctx, key, old, val)
}

// Whatever was acknowledged while the copy ran is in it, also where a write took longer than
// anybody waits.
func TestNoAcknowledgedWriteIsMissingInACopy(t *testing.T) {
	unsure := 0
	for range 30 {
		synctest.Test(t, func(t *testing.T) {
			inner, to := memory.New(), memory.New()
			from := guard.NewFreezable(lagging{inner}, storetest.Clear{})
			var acked [3]int
			var failed [3]error
			var writers sync.WaitGroup
			for i := range acked {
				writers.Go(func() {
					for n := 1; failed[i] == nil; n++ {
						if failed[i] = storetest.Put(t, from,
							fmt.Sprintf("cert/%d", i), fmt.Sprint(n)); failed[i] == nil {
							acked[i] = n
						}
					}
				})
			}
			time.Sleep(time.Minute)
			c := Copy{From: Reader{inner}, Name: "here", To: to, Tell: func(Progress) {},
				Freeze: func(ctx context.Context) error {
					return (guard.NewFreezable(inner, storetest.Clear{})).Freeze(ctx, guard.Notice{By: "copy"})
				}}
			_, err := c.Run(t.Context())
			writers.Wait()
			if err != nil {
				// a write came between the last pass and the comparison: it is run again, as it
				// says
				_, err = c.Run(t.Context())
			}
			testkit.Check(t, err)
			for i, n := range acked {
				val, _, err := to.Get(t.Context(), fmt.Sprintf("cert/%d", i))
				var have int
				if fmt.Sscan(string(val), &have); have < n {
					t.Errorf("cert/%d: %d was acknowledged, the copy has %d (%v)", i, n, have, err)
				}
				if !errors.Is(failed[i], store.ErrFrozen) {
					unsure++
				}
			}
		})
	}
	if unsure == 0 {
		t.Error("no write was under way when the store was frozen: nothing was shown")
	}
}

// slowly gives changes time to come between.
type slowly struct{ store.Store }

func (s slowly) Get(ctx context.Context, key string) ([]byte, store.Rev, error) {
	time.Sleep(time.Millisecond)
	return s.Store.Get(ctx, key)
}

// failing breaks off after some records.
type failing struct {
	of    Records
	after int
}

var errBroken = errors.New("broken")

func (f failing) Records(ctx context.Context, since store.Rev, do func(string, []byte) error) (store.Rev, error) {
	n := 0
	return f.of.Records(ctx, since, func(key string, val []byte) error {
		if n++; n > f.after {
			return errBroken
		}
		return do(key, val)
	})
}

func TestACopyThatWasInterruptedGoesOnAndIsNotServedBefore(t *testing.T) {
	from, to := memory.New(), memory.New()
	for i := range 100 {
		testkit.Check(t, storetest.Put(t, from, fmt.Sprintf("cert/%d", i), fmt.Sprint(i)))
	}
	c := Copy{From: failing{Reader{from}, 50}, Name: "./here", To: to, Tell: func(Progress) {}}
	if _, err := c.Run(t.Context()); !errors.Is(err, errBroken) {
		t.Fatal(err)
	}
	if _, err := Unlock(t.Context(), closing{to}, seal.File(filepath.Join(t.TempDir(), "k")), true); err == nil ||
		!strings.Contains(err.Error(), "./here") {
		t.Errorf("a store that was copied by half is opened: %v", err)
	}
	// deleted meanwhile; the next copy is not told
	testkit.Check(t, storetest.Put(t, from, "cert/7", ""))
	fresh := memory.New()
	for key, val := range content(t, from) {
		testkit.Check(t, storetest.Put(t, fresh, key, val))
	}
	c.From = Reader{fresh}
	n, err := c.Run(t.Context())
	testkit.Check(t, err)
	if n != 99 || !maps.Equal(content(t, from), content(t, to)) {
		t.Errorf("%d records", n)
	}
	if _, err := c.Run(t.Context()); !errors.Is(err, ErrNotEmpty) {
		t.Errorf("into a store that is full: %v", err)
	}
}

// liar changes a record after it said that it was quiet.
type liar struct {
	of     Records
	change func()
}

func (l liar) Records(ctx context.Context, since store.Rev, do func(string, []byte) error) (store.Rev, error) {
	head, err := l.of.Records(ctx, since, do)
	l.change()
	return head, err
}

func TestACopyThatIsNotTheSameIsNoCopy(t *testing.T) {
	from, to := memory.New(), memory.New()
	testkit.Check(t, storetest.Put(t, from, "cert/x", "1"))
	c := Copy{
		From: liar{Reader{from}, func() { testkit.Check(t, storetest.Put(t, from, "cert/x", "2")) }},
		Name: "here", To: to, Tell: func(Progress) {},
	}
	if _, err := c.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "cert/x") {
		t.Errorf("%v", err)
	}
	if _, _, err := to.Get(t.Context(), guard.CopyingKey); err != nil {
		t.Errorf("it is not marked any more: %v", err)
	}
}

type closing struct{ store.Store }

func (closing) Close() error { return nil }

func TestUnlock(t *testing.T) {
	inner := memory.New()
	key := seal.File(filepath.Join(t.TempDir(), "sealing.key"))
	v, err := Unlock(t.Context(), closing{inner}, key, true)
	testkit.Check(t, err)
	testkit.Check(t, storetest.Put(t, v, "cert/x", "secret"))
	if val := content(t, inner)["cert/x"]; strings.Contains(val, "secret") {
		t.Error("not sealed")
	}
	before := content(t, inner)
	lost := seal.File(filepath.Join(t.TempDir(), "sealing.key"))
	if _, err := Unlock(t.Context(), closing{inner}, lost, true); err == nil ||
		!strings.Contains(err.Error(), "sealing.key") || errors.Is(err, custody.ErrWrongKey) {
		t.Errorf("without the key: %v", err)
	}
	_, err = seal.LoadOrCreate(t.Context(), lost)
	testkit.Check(t, err)
	if _, err := Unlock(t.Context(), closing{inner}, lost, true); !errors.Is(err, custody.ErrWrongKey) ||
		!strings.Contains(err.Error(), lost.String()) {
		t.Errorf("with another key: %v", err)
	}
	if !maps.Equal(before, content(t, inner)) {
		t.Error("something was written with the wrong key")
	}
	testkit.Check(t, v.Freeze(t.Context(), "me", "it moves", time.Now()))
	if _, err := Unlock(t.Context(), closing{inner}, key, true); err != nil {
		t.Errorf("a frozen store cannot be opened: %v", err)
	}
}
