package custody_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lockstep-tls/lockstep/seal"
	"github.com/lockstep-tls/lockstep/seal/custody"
	"github.com/lockstep-tls/lockstep/store"
	"github.com/lockstep-tls/lockstep/store/guard"
	"github.com/lockstep-tls/lockstep/store/memory"
)

// byHand is a keyset that an operator changes, and that each replica has as a credential of its
// own, which it cannot change.
type byHand struct {
	t      *testing.T
	master *seal.Sealer
	path   string
}

func newByHand(t *testing.T) byHand {
	path := newKeyset(t)
	s, err := seal.Load(t.Context(), seal.File(path))
	check(t, err)
	return byHand{t, s, path}
}

// bring puts the keyset as it is now in its place at a replica.
func (h byHand) bring(dir string) {
	b, err := os.ReadFile(h.path)
	check(h.t, err)
	check(h.t, os.WriteFile(filepath.Join(dir, "kek"), b, 0o600))
}

func (h byHand) keys(dir string) seal.Keys {
	h.t.Setenv("CREDENTIALS_DIRECTORY", dir)
	k, err := seal.Source("credential:kek")
	check(h.t, err)
	return k
}

func (h byHand) stage() seal.KeyID {
	st, err := h.master.Stage(h.t.Context())
	check(h.t, err)
	return st.Staged[0]
}

func (h byHand) promote(id seal.KeyID) {
	_, err := h.master.Promote(h.t.Context(), id)
	check(h.t, err)
}

// sealedWith fails for each record that does not open with the present key alone.
func (v *vault) sealedWith(when string) {
	v.t.Helper()
	for key, err := range v.raw.Keys(v.t.Context(), "") {
		check(v.t, err)
		val, _, err := v.raw.Get(v.t.Context(), key)
		check(v.t, err)
		if strings.HasPrefix(key, "cert/") && v.sealer.Prove(val, []byte(key)) != nil {
			v.t.Errorf("%s: %s is not sealed with the present key", when, key)
		}
	}
}

// One replica gets the new keyset late, by hand: nothing counts as sealed anew while it writes
// with the old key, and all of it is once it does not.
func TestAReplicaThatIsLateKeepsTheOldKeyNeeded(t *testing.T) {
	raw := memory.New()
	h, dirA, dirB := newByHand(t), t.TempDir(), t.TempDir()
	h.bring(dirA)
	h.bring(dirB)
	keysA, keysB := h.keys(dirA), h.keys(dirB)
	synctest.Test(t, func(t *testing.T) {
		h.t = t
		a, b := openKeys(t, raw, keysA, "a"), openKeys(t, raw, keysB, "b")
		check(t, a.enter())
		check(t, b.enter())
		defer a.run()()
		stopB := b.run()
		time.Sleep(time.Minute)
		id := h.stage()
		h.bring(dirA)
		h.bring(dirB)
		time.Sleep(time.Minute)
		h.promote(id)
		h.bring(dirA)
		time.Sleep(time.Minute)
		b.put("cert/old", "v")
		if st := a.Status(); st.Keys.Primary != id || st.Resealed || !slices.Equal(st.WaitsFor, []string{"b"}) {
			t.Errorf("while b seals with the old key: %+v", st)
		}
		b.put("cert/later", "v")
		stopB()
		h.bring(dirB)
		b = openKeys(t, raw, keysB, "b") // restarted, late
		check(t, b.enter())
		stopB = b.run()
		defer stopB()
		time.Sleep(time.Minute)
		for _, v := range []*vault{a, b} {
			if st := v.Status(); st.Keys.Primary != id || !st.Resealed {
				t.Errorf("in the end: %+v", st)
			}
		}
		a.sealedWith("resealed")

		// Again without a stop: the note of before is no excuse.
		id = h.stage()
		h.bring(dirA)
		h.bring(dirB)
		time.Sleep(time.Minute)
		h.promote(id)
		h.bring(dirA)
		h.bring(dirB)
		b.put("cert/last", "v") // b has not read it yet
		time.Sleep(time.Minute)
		if st := a.Status(); !st.Resealed {
			t.Errorf("%+v", st)
		}
		a.sealedWith("resealed again")

		_, err := a.Retire(t.Context())
		if !errors.Is(err, seal.ErrReadOnly) || !errors.Is(err, custody.ErrRefused) ||
			!strings.Contains(err.Error(), "--file COPY --retire") || !strings.Contains(err.Error(), "each of") {
			t.Errorf("%v, want the proof and the next step", err)
		}
	})
}

// A replica slept through a change of the key. What it says of itself is old, and so is the key
// with which it would seal.
func TestAReplicaThatWasAwayDoesNotSealWithADroppedKey(t *testing.T) {
	h, dir := newByHand(t), t.TempDir()
	keys := h.keys(dir)
	synctest.Test(t, func(t *testing.T) {
		h.t = t
		raw, mine := memory.New(), newKeyset(t)
		theirs := filepath.Join(t.TempDir(), "copy.key")
		a := open(t, raw, mine, "a")
		check(t, a.enter())
		_, err := a.sealer.Stage(t.Context())
		check(t, err)
		for _, path := range []string{theirs, filepath.Join(dir, "kek")} {
			b, err := os.ReadFile(mine)
			check(t, err)
			check(t, os.WriteFile(path, b, 0o600))
		}
		b := open(t, raw, theirs, "b")
		check(t, b.enter())
		stopB := b.run()
		synctest.Wait()
		said, _, err := raw.Get(t.Context(), "seal/replica/b")
		check(t, err)
		stopB()

		defer a.run()()
		time.Sleep(time.Minute)
		if _, err := a.Retire(t.Context()); err != nil {
			t.Fatal(err)
		}
		id := a.sealer.State().Primary
		// as if b had been killed: sealed with the key that is gone
		_, err = raw.Swap(t.Context(), "seal/replica/b", 0, said)
		check(t, err)
		if reports, unreadable, err := a.Reports(t.Context()); err != nil || len(reports) != 1 ||
			!slices.Equal(unreadable, []string{"b"}) {
			t.Errorf("%+v %v %v, want a's report and b's name", reports, unreadable, err)
		}

		before, _, err := raw.Get(t.Context(), "seal/replica/b")
		check(t, err)
		locked := openKeys(t, raw, keys, "b")
		if err := locked.enter(); !errors.Is(err, custody.ErrBehind) ||
			!strings.Contains(err.Error(), "Put the keyset that the others have") {
			t.Errorf("with a keyset that cannot be changed: %v", err)
		}
		if after, _, _ := raw.Get(t.Context(), "seal/replica/b"); string(after) != string(before) {
			t.Error("something was written")
		}

		b = open(t, raw, theirs, "b")
		check(t, b.enter())
		if st := b.sealer.State(); st.Primary != id {
			t.Fatalf("b would seal with %s, which a has dropped for %s", st.Primary, id)
		}
		defer b.run()()
		b.put("cert/x", "v")
		time.Sleep(time.Minute)
		if _, _, err := a.sealed.Get(t.Context(), "cert/x"); err != nil {
			t.Error(err)
		}
		reports, unreadable, err := a.Reports(t.Context())
		if err != nil || len(reports) != 2 || len(unreadable) > 0 {
			t.Errorf("%+v %v %v: b did not write its report anew", reports, unreadable, err)
		}
		if st := b.Status(); st.Err != nil {
			t.Error(st.Err)
		}
	})
}

func TestAReportThatCannotBeReadIsNamedUntilItsReplicaIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		raw := memory.New()
		a := open(t, raw, newKeyset(t), "a")
		check(t, a.enter())
		defer a.run()()
		_, err := raw.Swap(t.Context(), "seal/replica/c", 0, []byte("damaged"))
		check(t, err)
		_, err = a.Rotate(t.Context())
		check(t, err)
		time.Sleep(20 * time.Minute)
		if st := a.Status(); st.Err != nil || len(st.Keys.Staged) != 1 || len(st.WaitsFor) != 1 ||
			!strings.HasPrefix(st.WaitsFor[0], "c (") {
			t.Errorf("%+v, want a key that waits for c", st)
		}
		time.Sleep(20 * time.Minute)
		if st := a.Status(); !st.Resealed || len(st.Keys.Old) != 1 {
			t.Errorf("c is gone: %+v", st)
		}
	})
}

// What a replica said minutes ago is no proof: Retire asks, and waits a while for the answers.
func TestRetireWaitsForAnAnswerOfEveryReplica(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		raw, keyset := memory.New(), newKeyset(t)
		a, b := open(t, raw, keyset, "a"), open(t, raw, keyset, "b")
		check(t, a.enter())
		defer a.run()()
		stopB := b.run()
		synctest.Wait()
		_, err := a.Rotate(t.Context())
		check(t, err)
		time.Sleep(time.Minute)
		said, _, err := raw.Get(t.Context(), "seal/replica/b")
		check(t, err)
		stopB()
		_, err = raw.Swap(t.Context(), "seal/replica/b", 0, said) // it hangs
		check(t, err)
		time.Sleep(time.Minute)
		begun := time.Now()
		if _, err := a.Retire(t.Context()); !errors.Is(err, custody.ErrRefused) ||
			!strings.Contains(err.Error(), "b (not heard of since") {
			t.Errorf("Retire = %v, want a refusal that names b", err)
		}
		if took := time.Since(begun); took > 40*time.Second {
			t.Errorf("it waited %s", took)
		}
		if len(a.sealer.State().Old) != 1 {
			t.Fatal("the old key is gone")
		}
		stop := make(chan func(), 1)
		go func() {
			time.Sleep(10 * time.Second)
			stop <- b.run()
		}()
		if _, err := a.Retire(t.Context()); err != nil {
			t.Errorf("b answers: %v", err)
		}
		(<-stop)()
	})
}

// lagging holds back the writes of one record.
type lagging struct{ store.Store }

func (l lagging) Swap(ctx context.Context, key string, old store.Rev, val []byte) (store.Rev, error) {
	if key == "cert/slow" {
		time.Sleep(5 * time.Second)
	}
	return l.Store.Swap(ctx, key, old, val)
}

// A driver tries for seconds: what was sealed with the old key just before another replica changed
// it may arrive after the scan.
func TestAWriteThatIsUnderWayIsSealedAnewToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		raw, keyset := memory.New(), newKeyset(t)
		often := func(c *custody.Config) { c.Refresh = time.Second }
		a, b := open(t, raw, keyset, "a", often), open(t, raw, keyset, "b", often)
		check(t, a.enter())
		defer a.run()()
		time.Sleep(time.Second / 2)
		defer b.run()()
		time.Sleep(10 * time.Second)
		first := a.sealer.State().Primary
		_, err := a.Rotate(t.Context())
		check(t, err)
		for range 20_000 {
			if a.sealer.State().Primary != first || b.sealer.State().Primary != first {
				break
			}
			time.Sleep(time.Millisecond)
		}
		slow := a
		if b.sealer.State().Primary == first {
			slow = b
		}
		slow.raw = lagging{raw}
		slow.sealed = guard.Sealed(slow.raw, slow.sealer)
		done := make(chan struct{})
		go func() { defer close(done); slow.put("cert/slow", "v") }()
		for range 60_000 {
			if a.Status().Resealed {
				break
			}
			time.Sleep(time.Millisecond)
		}
		if _, err := a.Retire(t.Context()); err != nil {
			t.Error(err)
		}
		<-done
		a.sealedWith("retired")
	})
}

// A replica that hung for longer than anybody waits still seals with the old key when it wakes up;
// what it wrote is found.
func TestAReplicaThatWakesUpWithTheOldKeyHasAllSealedAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		raw, keyset := memory.New(), newKeyset(t)
		a, b := open(t, raw, keyset, "a"), open(t, raw, keyset, "b")
		check(t, a.enter())
		defer a.run()()
		stopB := b.run()
		time.Sleep(time.Second)
		said, _, err := raw.Get(t.Context(), "seal/replica/b")
		check(t, err)
		stopB()
		_, err = raw.Swap(t.Context(), "seal/replica/b", 0, said)
		check(t, err)
		_, err = a.Rotate(t.Context())
		check(t, err)
		time.Sleep(time.Hour)
		if st := a.Status(); !st.Resealed {
			t.Fatalf("%+v", st)
		}
		b.put("cert/x", "v")
		defer b.run()()
		time.Sleep(time.Minute)
		a.sealedWith("b is awake")
		if st := a.Status(); !st.Resealed {
			t.Errorf("%+v", st)
		}
	})
}

func TestWhoStartsWithAnotherKeyTakesTheNoteAway(t *testing.T) {
	raw, keyset := memory.New(), newKeyset(t)
	a := open(t, raw, keyset, "a")
	check(t, a.enter())
	for note, stays := range map[string]bool{
		a.sealer.State().Primary.String(): true, "scan " + a.sealer.State().Primary.String(): true, "0badc0de": false,
		"scan 0badc0de": false, "?": false,
	} {
		a.put("seal/done", note)
		check(t, open(t, raw, keyset, "b").enter())
		if _, _, err := raw.Get(t.Context(), "seal/done"); stays != (err == nil) {
			t.Errorf("%q: %v, want it to stay: %t", note, err, stays)
		}
	}
}

// watching calls look before the note on what is sealed anew is read.
type watching struct {
	store.Store
	look func()
}

func (w watching) Get(ctx context.Context, key string) ([]byte, store.Rev, error) {
	if key == "seal/done" {
		w.look()
	}
	return w.Store.Get(ctx, key)
}

// What was sealed anew stays so at each later look; only a replica with another key, or another
// note, puts it in question.
func TestWhatIsSealedAnewStaysSo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		raw, keyset := memory.New(), newKeyset(t)
		var looks, unsure atomic.Int64
		var a *vault
		a = open(t, raw, keyset, "a", func(c *custody.Config) {
			c.Raw = watching{raw, func() {
				if looks.Add(1); !a.Status().Resealed {
					unsure.Add(1)
				}
			}}
		})
		check(t, a.enter())
		defer a.run()()
		time.Sleep(time.Minute)
		_, err := a.Rotate(t.Context())
		check(t, err)
		time.Sleep(time.Minute)
		if !a.Status().Resealed {
			t.Fatalf("%+v", a.Status())
		}
		looks.Store(0)
		unsure.Store(0)
		time.Sleep(time.Minute)
		if looks.Load() < 5 || unsure.Load() > 0 {
			t.Fatalf("the note was read %d times in a minute, %d of them while it was in question", looks.Load(),
				unsure.Load())
		}
		_, rev, err := raw.Get(t.Context(), "seal/done")
		check(t, err)
		_, err = raw.Swap(t.Context(), "seal/done", rev, nil) // as who seals with another key does
		check(t, err)
		time.Sleep(time.Minute)
		if unsure.Load() == 0 || !a.Status().Resealed {
			t.Errorf("without the note: it was in question %d times, in the end %+v", unsure.Load(), a.Status())
		}
	})
}
