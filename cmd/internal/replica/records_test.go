package replica

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lockstep-tls/lockstep/cmd/internal/problems"
	"github.com/lockstep-tls/lockstep/rotation/fleet"
	"github.com/lockstep-tls/lockstep/store"
)

// sealed is a store of which some records do not open.
type sealed struct {
	store.Store
	closed map[string]bool
}

func (s sealed) Get(ctx context.Context, key string) ([]byte, store.Rev, error) {
	val, rev, err := s.Store.Get(ctx, key)
	if err == nil && s.closed[key] {
		return nil, rev, fmt.Errorf("%s %w", key, store.ErrSealed)
	}
	return val, rev, err
}

func (s sealed) GetAll(ctx context.Context, keys []string) (all []store.Value) {
	for _, key := range keys {
		val, rev, err := s.Get(ctx, key)
		all = append(all, store.Value{Val: val, Rev: rev, Err: err})
	}
	return all
}

// A replica that has an earlier sealing key takes no record for damaged.
func TestWithAnEarlierSealingKeyNothingIsWrittenAndWhatWasReadStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		a, b := l.replica("a", "v1"), l.replica("b", "v1")
		l.look(a, b)
		l.look(a)
		l.put("c", "{}")
		whole := a.cfg.Store
		a.cfg.Store = sealed{whole, map[string]bool{keyOf("a"): true, keyOf("b"): true, keyOf("c"): true}}
		earlier := errors.New("this is an earlier key")
		a.cfg.Unsealed = func(context.Context) error { return earlier }
		_, before, err := whole.Get(t.Context(), keyOf("a"))
		if err != nil {
			t.Fatal(err)
		}
		for range 30 * time.Hour / time.Hour {
			time.Sleep(time.Hour)
			if err := a.look(t.Context()); !errors.Is(err, earlier) {
				t.Fatal(err)
			}
		}
		l.is("with the earlier key", rows(a), "a v1 here, b v1 live")
		a.leave()
		if _, now, err := whole.Get(t.Context(), keyOf("a")); err != nil || now != before {
			t.Errorf("its record was written over: %v", err)
		}
		if _, _, err := whole.Get(t.Context(), keyOf("c")); err != nil {
			t.Errorf("the record of c was deleted: %v", err)
		}

		// It gets the key, and one record is damaged indeed.
		a.cfg.Unsealed = func(context.Context) error { return nil }
		a.cfg.Store = whole
		l.look(b, a)
		a.cfg.Store = sealed{whole, map[string]bool{keyOf("b"): true}}
		l.look(a)
		l.is("with a damaged record", rows(a), "a v1 here, b v1 live")
	})
}

// A record that nobody can read is deleted if its replica is not here, and does not change for a
// day.
func TestADamagedRecordOfADeadReplicaIsDeletedAfterADay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		for _, name := range []string{"dead", "changes", "live"} {
			l.put(name, "broken")
		}
		l.alive["live"] = true
		a := l.replica("a", "v1")
		a.cfg.Store = sealed{l.store, map[string]bool{keyOf("dead"): true}}
		there := func(name string) bool {
			_, _, err := l.store.Get(t.Context(), keyOf(name))
			return err == nil
		}
		l.look(a)
		time.Sleep(12 * time.Hour)
		l.look(a)
		_, rev, err := l.store.Get(t.Context(), keyOf("changes"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := l.store.Swap(t.Context(), keyOf("changes"), rev, []byte("broken again")); err != nil {
			t.Fatal(err)
		}
		time.Sleep(11 * time.Hour)
		l.look(a)
		if !there("dead") || !there("changes") || !there("live") {
			t.Error("a record was deleted within a day")
		}
		time.Sleep(2 * time.Hour)
		l.look(a)
		if there("dead") || !there("changes") || !there("live") {
			t.Errorf("after a day: dead %v, changes %v, live %v", there("dead"), there("changes"), there("live"))
		}
	})
}

// A start that is refused leaves no record, and nobody misses it later.
func TestBeforeAReplicaMayWorkItWritesNoRecord(t *testing.T) {
	l := newLab(t)
	a := l.replica("a", "v1")
	ready := make(chan struct{})
	a.cfg.Ready = ready
	l.look(a)
	a.leave()
	if _, _, err := l.store.Get(t.Context(), keyOf("a")); !errors.Is(err, store.ErrNotExist) {
		t.Errorf("it is not known whether it may work: %v", err)
	}
	close(ready)
	l.look(a)
	if _, _, err := l.store.Get(t.Context(), keyOf("a")); err != nil {
		t.Error(err)
	}
}

// slow is a store that takes its time to write.
type slow struct{ store.Store }

func (s slow) Swap(ctx context.Context, _ string, _ store.Rev, _ []byte) (store.Rev, error) {
	<-ctx.Done()
	return 0, ctx.Err()
}

func TestASlowStoreIsNotBlamedOnTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		l.alive["b"] = true
		a := l.replica("a", "v1")
		a.cfg.Store = slow{l.store}
		a.cfg.Ask = asking(func(ctx context.Context) error {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(time.Second):
				return nil
			}
		})
		if err := a.look(t.Context()); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		if one := a.List()[1]; one.Silent != "" {
			t.Errorf("%+v", one)
		}
		refused := errors.New("connection refused")
		a.cfg.Ask = asking(func(context.Context) error { return refused })
		if a.look(t.Context()); a.List()[1].Silent != refused.Error() {
			t.Errorf("%+v", a.List()[1])
		}
		a.silent = map[string]silence{}
		ctx, cancel := context.WithCancel(t.Context())
		a.cfg.Ask = asking(func(context.Context) error {
			cancel()
			return context.Canceled
		})
		if _ = a.look(ctx); a.List()[1].Silent != "" {
			t.Errorf("at a stop: %+v", a.List()[1])
		}
	})
}

type asking func(context.Context) error

func (f asking) Mute(ctx context.Context, _ fleet.Peer) (bool, error) { return false, f(ctx) }

// Replicas that are alive are known, however many have ended.
func TestALiveReplicaTakesThePlaceOfADeadOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		a := l.replica("a", "v1")
		dead := func(i int) string { return fmt.Sprintf("dead-%03d", i) }
		for i := range maxKnown {
			val, err := record{Version: "v0", Started: time.Now(), At: time.Now()}.encode()
			if err != nil {
				t.Fatal(err)
			}
			l.put(dead(i), string(val))
			l.alive[dead(i)] = true
		}
		l.look(a)
		l.alive[dead(7)] = false
		l.wait(time.Minute, a)
		for i := range maxKnown {
			l.alive[dead(i)] = false
		}
		l.wait(time.Minute, a)
		z := l.replica("z", "v1")
		l.look(z, a)
		if all := rows(a); !strings.HasSuffix(all, ", z v1 live") || strings.Contains(all, dead(7)) ||
			strings.Count(all, "dead") != maxKnown-1 {
			t.Errorf("%s", all)
		}
		l.wait(2*time.Minute, a, z)
		l.is("later", fmt.Sprint(strings.Contains(rows(a), "z v1 live")), "true")
	})
}

// Two machines that were made from one image have one replica's name.
func TestAnotherProcessWithTheNameOfThisReplicaIsAProblem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		before := l.replica("a", "v1")
		l.look(before)
		a, twin := l.replica("a", "v1"), l.replica("a", "v1") // both are started in one second
		l.look(a)
		before.leave() // it ends a little later
		l.wait(time.Minute, a)
		l.is("after a restart", codes(a), "")

		l.wait(time.Minute, twin, a)
		for _, one := range []*Registry{a, twin} {
			l.is("two at once", codes(one), "replica-twice/a/critical")
			if p := one.Problems()[0]; !strings.Contains(p.Text, "http://127.0.0.1:1") || p.Next == "" {
				t.Errorf("%+v", p)
			}
		}
		l.wait(twinFor+time.Minute, a)
		l.is("one was stopped", codes(a), "")
		if k, _ := problems.Find(problems.ReplicaTwice); k.Code == "" {
			t.Error("it is not in the register")
		}
	})
}
