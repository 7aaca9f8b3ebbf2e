package custody_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/lockstep-tls/lockstep/seal"
	"github.com/lockstep-tls/lockstep/seal/custody"
	"github.com/lockstep-tls/lockstep/store"
	"github.com/lockstep-tls/lockstep/store/guard"
	"github.com/lockstep-tls/lockstep/store/memory"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// vault is one replica's view of a store.
type vault struct {
	t      *testing.T
	raw    store.Store
	sealed store.Store
	sealer *seal.Sealer
	*custody.Custodian
}

func newKeyset(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "sealing.key")
	_, err := seal.Create(path)
	check(t, err)
	return path
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func open(t *testing.T, raw store.Store, keyset, replica string, other ...func(*custody.Config)) *vault {
	t.Helper()
	return openKeys(t, raw, seal.File(keyset), replica, other...)
}

// openKeys lets other change the configuration.
func openKeys(t *testing.T, raw store.Store, keys seal.Keys, replica string, other ...func(*custody.Config)) *vault {
	t.Helper()
	s, err := seal.Load(t.Context(), keys)
	check(t, err)
	v := &vault{t: t, raw: raw, sealed: guard.Sealed(raw, s), sealer: s}
	c := custody.Config{
		Store: v.sealed, Raw: raw, Sealer: s, Replica: replica, Refresh: 5 * time.Second,
		Log:      slog.New(slog.NewTextHandler(io.Discard, nil)),
		Commands: custody.Commands{Status: "lockstep kek status", Retire: "lockstep kek rotate --file COPY --retire"},
	}
	for _, change := range other {
		change(&c)
	}
	v.Custodian = custody.New(c)
	return v
}

func (v *vault) put(key, val string) {
	v.t.Helper()
	_, rev, err := v.sealed.Get(v.t.Context(), key)
	if err != nil && !errors.Is(err, store.ErrNotExist) {
		v.t.Fatal(err)
	}
	_, err = v.sealed.Swap(v.t.Context(), key, rev, []byte(val))
	check(v.t, err)
}

func (v *vault) prove() error { return custody.Prove(v.t.Context(), v.sealed, v.raw, v.sealer) }

func (v *vault) enter() error { return custody.Enter(v.t.Context(), v.sealed, v.raw, v.sealer) }

// run runs the custodian until the test, or stop, ends.
func (v *vault) run() (stop func()) {
	ctx, cancel := context.WithCancel(v.t.Context())
	done := make(chan error)
	go func() { done <- v.Run(ctx) }()
	return sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			v.t.Error(err)
		}
	})
}

func TestTheCanary(t *testing.T) {
	raw, keyset := memory.New(), newKeyset(t)
	right, wrong := open(t, raw, keyset, "r1"), open(t, raw, newKeyset(t), "r2")
	check(t, right.prove())
	check(t, right.prove())
	before, _, err := raw.Get(t.Context(), "seal/canary")
	check(t, err)
	err = wrong.prove()
	if !errors.Is(err, custody.ErrWrongKey) || !strings.Contains(err.Error(), "seal/canary") ||
		!strings.Contains(err.Error(), "sealing.key") {
		t.Errorf("another key: %v, want one that names the source and the record", err)
	}
	after, _, err := raw.Get(t.Context(), "seal/canary")
	check(t, err)
	if !bytes.Equal(before, after) {
		t.Error("a wrong key replaced the canary")
	}

	right.put("cert/shop.example", "v")
	_, rev, err := raw.Get(t.Context(), "seal/canary")
	check(t, err)
	before[len(before)-1] ^= 1
	_, err = raw.Swap(t.Context(), "seal/canary", rev, before)
	check(t, err)
	if err := right.prove(); !errors.Is(err, custody.ErrCanary) {
		t.Errorf("a changed canary among records that open: %v", err)
	}
	if err := wrong.prove(); !errors.Is(err, custody.ErrWrongKey) {
		t.Errorf("a changed canary and another key: %v", err)
	}
}

func TestAStoreOfAnEarlierVersionIsProvedByItsRecords(t *testing.T) {
	raw, keyset := memory.New(), newKeyset(t)
	right, wrong := open(t, raw, keyset, "r1"), open(t, raw, newKeyset(t), "r2")
	right.put("cert/b.example", "v")
	_, err := raw.Swap(t.Context(), "cert/a.example", 0, []byte("damaged"))
	check(t, err)
	err = wrong.prove()
	if !errors.Is(err, custody.ErrWrongKey) || !strings.Contains(err.Error(), "cert/a.example") {
		t.Errorf("%v", err)
	}
	if _, _, err := raw.Get(t.Context(), "seal/canary"); !errors.Is(err, store.ErrNotExist) {
		t.Fatal("a wrong key wrote a canary")
	}
	check(t, right.prove())
	if _, _, err := right.sealed.Get(t.Context(), "seal/canary"); err != nil {
		t.Error(err)
	}
}

// slow lets others come between a look and what follows it.
type slow struct{ store.Store }

func (s slow) Get(ctx context.Context, key string) ([]byte, store.Rev, error) {
	time.Sleep(rand.N(20 * time.Millisecond))
	return s.Store.Get(ctx, key)
}

func (s slow) Swap(ctx context.Context, key string, old store.Rev, val []byte) (store.Rev, error) {
	time.Sleep(rand.N(20 * time.Millisecond))
	return s.Store.Swap(ctx, key, old, val)
}

// A key is changed while records are written by two replicas: no write is lost, and in the end the
// new key alone opens all.
func TestRotateUnderWrites(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		raw, keyset := slow{memory.New()}, newKeyset(t)
		a, b := open(t, raw, keyset, "a"), open(t, raw, keyset, "b")
		check(t, a.prove())
		const records = 40
		for i := range records {
			a.put(fmt.Sprintf("cert/%d", i), "0")
		}
		defer a.run()()
		stopB := b.run()
		defer stopB()
		time.Sleep(time.Second)
		first := a.sealer.State().Primary

		stop := make(chan struct{})
		var writers sync.WaitGroup
		counts := make([]int, 2)
		for w, v := range []*vault{a, b} {
			writers.Go(func() {
				for i := 0; ; i++ {
					select {
					case <-stop:
						return
					case <-time.After(rand.N(time.Millisecond)):
					}
					key := fmt.Sprintf("cert/%d", i%2*2+w) // two of its own
					val, rev, err := v.sealed.Get(t.Context(), key)
					if err != nil {
						t.Error(err)
						return
					}
					var n int
					fmt.Sscan(string(val), &n)
					if _, err := v.sealed.Swap(t.Context(), key, rev, fmt.Append(nil, n+1)); err == nil {
						counts[w]++
					} else if !errors.Is(err, store.ErrConflict) {
						t.Error(err)
						return
					}
				}
			})
		}
		time.Sleep(time.Second)
		_, err := a.Rotate(t.Context())
		check(t, err)
		time.Sleep(time.Second)
		if st := a.Status(); st.Keys.Primary != first || !slices.Equal(st.WaitsFor, []string{"b"}) {
			t.Errorf("the new key seals before b has it, or that is not said: %+v", st)
		}
		if _, err := a.Retire(t.Context()); !errors.Is(err, custody.ErrRefused) {
			t.Errorf("Retire while the new key is staged: %v", err)
		}
		time.Sleep(time.Minute)
		for _, v := range []*vault{a, b} {
			st := v.Status()
			if st.Keys.Primary == first || len(st.Keys.Old) != 1 || !st.Resealed || st.Err != nil ||
				len(st.Work.Bad) > 0 {
				t.Errorf("after a minute: %+v", st)
			}
		}
		n, err := a.Retire(t.Context())
		check(t, err)
		if n < records {
			t.Errorf("%d records proved", n)
		}
		for range 10 {
			time.Sleep(10 * time.Second)
			_, err := a.Rotate(t.Context())
			check(t, err)
			time.Sleep(20 * time.Second)
			_, err = a.Retire(t.Context())
			check(t, err)
		}
		time.Sleep(10 * time.Second)
		close(stop)
		writers.Wait()
		if st := b.sealer.State(); len(st.All()) != 1 {
			t.Errorf("b did not see the old key go: %+v", st)
		}
		sum := 0
		for key, err := range raw.Keys(t.Context(), "cert/") {
			check(t, err)
			val, _, err := raw.Get(t.Context(), key)
			check(t, err)
			if err := a.sealer.Prove(val, []byte(key)); err != nil {
				t.Errorf("%s does not open with the new key: %v", key, err)
			}
			plain, err := a.sealer.Open(val, []byte(key))
			check(t, err)
			var n int
			fmt.Sscan(string(plain), &n)
			sum += n
		}
		if want := counts[0] + counts[1]; sum != want || sum == 0 {
			t.Errorf("%d increments are there, %d were made", sum, want)
		}
		if _, err := a.Retire(t.Context()); !errors.Is(err, custody.ErrRefused) {
			t.Errorf("Retire of nothing: %v", err)
		}
		check(t, a.prove())
	})
}

func TestRetireIsRefusedWhileAReplicaSealsWithTheOldKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		raw, mine := memory.New(), newKeyset(t)
		theirs := filepath.Join(t.TempDir(), "copy.key") // distributed by hand
		distribute := func() {
			b, err := os.ReadFile(mine)
			check(t, err)
			check(t, os.WriteFile(theirs, b, 0o600))
		}
		distribute()
		a, b := open(t, raw, mine, "a"), open(t, raw, theirs, "b")
		check(t, a.prove())
		defer a.run()()
		stopB := b.run()
		synctest.Wait()
		_, err := a.Rotate(t.Context())
		check(t, err)
		time.Sleep(time.Hour)
		if st := a.Status(); !slices.Equal(st.WaitsFor, []string{"b"}) || len(st.Keys.Staged) != 1 {
			t.Fatalf("%+v", st)
		}
		distribute()
		time.Sleep(time.Minute)
		for _, v := range []*vault{a, b} { // each promotes in its own file
			if st := v.Status(); len(st.Keys.Old) != 1 || !st.Resealed {
				t.Errorf("%+v", st)
			}
		}
		stopB()
		late := fmt.Appendf(nil, `{"primary":"%s","keys":["%[1]s"],"at":%q}`, a.sealer.State().Old[0],
			time.Now().Format(time.RFC3339))
		// b was started with the old file
		_, err = a.sealed.Swap(t.Context(), "seal/replica/b", 0, late)
		check(t, err)
		if _, err := a.Retire(t.Context()); !errors.Is(err, custody.ErrRefused) ||
			!strings.Contains(err.Error(), ": b (seals with ") {
			t.Errorf("Retire = %v, want a refusal that names b", err)
		}
		if len(a.sealer.State().Old) != 1 {
			t.Error("the old key is gone")
		}
		time.Sleep(time.Hour) // b died
		if _, err := a.Retire(t.Context()); err != nil {
			t.Errorf("Retire once b is gone: %v", err)
		}
	})
}

func TestARestartCarriesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		raw, keyset := memory.New(), newKeyset(t)
		v := open(t, raw, keyset, "a")
		check(t, v.prove())
		v.put("cert/x", "v")
		_, err := v.sealer.Stage(t.Context()) // killed right after
		check(t, err)
		v = open(t, raw, keyset, "a")
		stop := v.run()
		time.Sleep(time.Minute)
		if st := v.Status(); len(st.Keys.Old) != 1 || !st.Resealed {
			t.Errorf("%+v", st)
		}
		stop()
		if _, _, err := raw.Get(t.Context(), "seal/replica/a"); !errors.Is(err, store.ErrNotExist) {
			t.Errorf("a stopped replica is still waited for: %v", err)
		}
		v = open(t, raw, keyset, "a") // what was done is not done again
		defer v.run()()
		synctest.Wait()
		if st := v.Status(); !st.Resealed || st.Work.Records != 0 {
			t.Errorf("%+v", st)
		}
	})
}

func TestABadRecordIsNamedAndKeepsTheOldKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		raw, keyset := memory.New(), newKeyset(t)
		v := open(t, raw, keyset, "a")
		check(t, v.prove())
		v.put("cert/x", "v")
		val, _, err := raw.Get(t.Context(), "cert/x")
		check(t, err)
		_, err = raw.Swap(t.Context(), "cert/copied", 0, val) // under another name
		check(t, err)
		defer v.run()()
		_, err = v.Rotate(t.Context())
		check(t, err)
		time.Sleep(time.Minute)
		if st := v.Status(); !slices.Equal(st.Work.Bad, []string{"cert/copied"}) {
			t.Errorf("%+v", st)
		}
		if _, err := v.Retire(t.Context()); !errors.Is(err, custody.ErrRefused) ||
			!strings.Contains(err.Error(), "cert/copied") {
			t.Errorf("%v", err)
		}
		if len(v.sealer.State().Old) != 1 {
			t.Error("the old key is gone")
		}
	})
}

func TestTheCanaryIsOpenedDaily(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		raw, keyset := memory.New(), newKeyset(t)
		v := open(t, raw, keyset, "a")
		check(t, v.prove())
		v.put("cert/x", "v")
		defer v.run()()
		val, rev, err := raw.Get(t.Context(), "seal/canary")
		check(t, err)
		good := bytes.Clone(val)
		val[len(val)-1] ^= 1
		rev, err = raw.Swap(t.Context(), "seal/canary", rev, val)
		check(t, err)
		time.Sleep(23 * time.Hour)
		if err := v.Status().Canary; err != nil {
			t.Errorf("early: %v", err)
		}
		time.Sleep(2 * time.Hour)
		if err := v.Status().Canary; !errors.Is(err, custody.ErrCanary) {
			t.Errorf("after a day: %v", err)
		}
		_, err = raw.Swap(t.Context(), "seal/canary", rev, good)
		check(t, err)
		time.Sleep(2 * time.Minute)
		if err := v.Status().Canary; err != nil {
			t.Errorf("repaired: %v", err)
		}
	})
}
