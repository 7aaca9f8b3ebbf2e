package replica

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lockstep-tls/lockstep/cmd/internal/api"
	"github.com/lockstep-tls/lockstep/cmd/internal/problems"
	"github.com/lockstep-tls/lockstep/rotation/fleet"
	"github.com/lockstep-tls/lockstep/store"
	"github.com/lockstep-tls/lockstep/store/memory"
)

// lab is several replicas on one store.
type lab struct {
	t     *testing.T
	store store.Store
	alive map[string]bool          // alive are those whose roster is written now.
	at    map[string]time.Time     // at is when it was written last.
	asked func(p fleet.Peer) error // asked is what a replica answers.
}

func newLab(t *testing.T) *lab {
	return &lab{
		t: t, store: memory.New(), alive: map[string]bool{}, at: map[string]time.Time{},
		asked: func(fleet.Peer) error { return nil },
	}
}

// rosters is what one replica reads of the others' rosters.
type rosters struct {
	*lab
	self string
}

func (r rosters) Peers() (out []fleet.Peer) {
	now := time.Now()
	for name, alive := range r.alive {
		if alive {
			r.at[name] = now
		}
		if name != r.self && now.Sub(r.at[name]) <= 30*time.Second {
			out = append(out, fleet.Peer{Replica: name, Admin: "http://" + name, At: r.at[name]})
		}
	}
	return out
}

func (r rosters) Mute(_ context.Context, p fleet.Peer) (bool, error) { return false, r.asked(p) }

func (l *lab) replica(name, version string) *Registry {
	l.alive[name] = true
	rest := rosters{l, name}
	return New(Config{
		Store: l.store, Replica: name, Version: version, Shared: true, Refresh: time.Second, Fleet: rest, Ask: rest,
		Admin: "http://127.0.0.1:1", Log: slog.New(slog.DiscardHandler),
	})
}

func (l *lab) look(all ...*Registry) {
	l.t.Helper()
	for _, r := range all {
		if err := r.look(l.t.Context()); err != nil {
			l.t.Fatal(err)
		}
	}
}

// wait lets time pass, in which each replica looks every ten seconds.
func (l *lab) wait(d time.Duration, all ...*Registry) {
	l.t.Helper()
	for ; d > 0; d -= lookEvery {
		time.Sleep(min(d, lookEvery))
		l.look(all...)
	}
}

// rows is a list as text: name, version and state of each.
func rows(r *Registry) string {
	var out []string
	for _, one := range r.List() {
		out = append(out, strings.Join(strings.Fields(one.Replica+" "+one.Version+" "+one.State), " "))
	}
	return strings.Join(out, ", ")
}

func codes(r *Registry) string {
	var out []string
	for _, p := range r.Problems() {
		out = append(out, fmt.Sprintf("%s/%s/%s", p.Code, p.Where, p.Severity))
	}
	slices.Sort(out)
	return strings.Join(out, ", ")
}

func (l *lab) is(what, got, want string) {
	l.t.Helper()
	if got != want {
		l.t.Errorf("%s: %q, want %q", what, got, want)
	}
}

func TestAReplicaThatStoppedIsNotMissingAndOneThatIsSilentIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		a, b, c := l.replica("a", "v1"), l.replica("b", "v1"), l.replica("c", "v1")
		l.look(a, b, c)
		l.wait(time.Minute, a, b, c)
		l.is("all run", rows(a), "a v1 here, b v1 live, c v1 live")
		l.is("all run", codes(a), "")

		b.leave()
		l.alive["b"], l.alive["c"] = false, false
		gone := time.Now()
		l.wait(30*time.Second, a)
		l.is("within 30 s", rows(a), "a v1 here, b v1 stopped, c v1 live")
		l.wait(30*time.Second, a)
		l.is("after a minute", rows(a), "a v1 here, b v1 stopped, c v1 missing")
		l.is("after a minute", codes(a), "replica-missing/c/warning")
		p := a.Problems()[0]
		if p.Since.After(gone) || gone.Sub(p.Since) > writeEvery || !strings.Contains(p.Text, "after 24 h") ||
			!strings.Contains(p.Next, "--ack replica-missing") {
			t.Errorf("%+v, gone at %s", p, gone)
		}

		// A replica that starts now knows it from the record.
		d := l.replica("d", "v1")
		l.look(d)
		l.is("at its start", rows(d), "a v1 live, b v1 stopped, c v1 unheard, d v1 here")
		l.is("at its start", codes(d), "")
		l.wait(missingAfter+lookEvery, d)
		l.is("after its start", codes(d), "replica-missing/c/warning")
		l.is("after its start", rows(d), "a v1 live, b v1 stopped, c v1 missing, d v1 here")

		// It comes back.
		l.alive["c"] = true
		c = l.replica("c", "v1")
		l.look(c, a, d)
		l.is("it is back", codes(a)+codes(d), "")
		l.alive["c"] = false
		l.wait(25*time.Hour, a, d)
		l.is("a day later", codes(a), "")
		l.is("a day later", rows(a), "a v1 here, d v1 live")
		for _, name := range []string{"b", "c"} {
			if _, _, err := l.store.Get(t.Context(), keyOf(name)); !errors.Is(err, store.ErrNotExist) {
				t.Errorf("the record of %s is still there: %v", name, err)
			}
		}
	})
}

func TestAnOutageOfTheStoreMakesNobodyMissing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		a, b := l.replica("a", "v1"), l.replica("b", "v1")
		l.look(a, b)
		whole := a.cfg.Store
		a.cfg.Store = down{whole}
		l.alive["b"] = false // nobody can write
		for range 20 {
			time.Sleep(lookEvery)
			if a.look(t.Context()) == nil {
				t.Fatal("a look succeeded")
			}
		}
		a.cfg.Store = whole
		l.look(a) // b has not written yet
		l.wait(lookEvery, a)
		l.is("after the outage", codes(a), "")
		l.alive["b"] = true
		l.wait(time.Minute, b, a)
		l.is("later", codes(a), "")

		// One that was missing before stays so, also if a single look fails.
		l.alive["b"] = false
		l.wait(2*time.Minute, a)
		l.is("it is gone", codes(a), "replica-missing/b/warning")
		for range 3 {
			a.cfg.Store = down{whole}
			if a.look(t.Context()) == nil {
				t.Fatal("a look succeeded")
			}
			l.is("while the store is away", codes(a), "replica-missing/b/warning")
			a.cfg.Store = whole
			l.look(a)
			l.is("after a failed look", codes(a), "replica-missing/b/warning")
			time.Sleep(lookEvery)
		}
	})
}

type down struct{ store.Store }

func (down) Now(context.Context) (time.Time, error) { return time.Time{}, errors.New("down") }

func TestDifferentVersionsAreANoticeForAnHour(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		a, b := l.replica("a", "v1"), l.replica("b", "v1")
		l.look(a, b)
		l.wait(3*time.Hour, a, b)
		b.leave()
		upgraded := time.Now()
		b = l.replica("b", "v2")
		l.look(b, a)
		l.is("just upgraded", rows(a), "a v1 here, b v2 live")
		l.is("just upgraded", codes(a), "mixed-versions//notice")
		if p := a.Problems()[0]; !p.Since.Equal(upgraded) || !strings.Contains(p.Text, "v1 (a), v2 (b)") {
			t.Errorf("%+v, upgraded at %s", p, upgraded)
		}
		if problems.Counts(a.Problems()[0]) {
			t.Error("an upgrade makes the status degraded")
		}
		l.is("both say so", codes(b), "mixed-versions//notice")
		l.wait(upgradeFor/2, a, b)
		// A restart of any of them does not begin the hour anew.
		b.leave()
		l.alive["b"] = false
		l.wait(time.Minute, a)
		l.is("one version for a moment", codes(a), "")
		b = l.replica("b", "v2")
		l.look(b, a)
		a.leave()
		a = l.replica("a", "v1")
		l.look(a, b)
		for _, one := range []*Registry{a, b} {
			if p := one.Problems()[0]; p.Since.Sub(upgraded).Abs() > time.Second {
				t.Errorf("%s says %+v, upgraded at %s", one.cfg.Replica, p, upgraded)
			}
		}
		l.wait(upgradeFor/2, a, b)
		l.is("an hour later", codes(a), "mixed-versions//warning")
		a = l.replica("a", "v2")
		l.look(a, b)
		l.is("all upgraded", codes(a)+codes(b), "")
		l.wait(mixedPause+time.Minute, a, b)
		a.leave()
		a = l.replica("a", "v3")
		l.look(a, b)
		l.is("the next upgrade", codes(a)+" "+codes(b), "mixed-versions//notice mixed-versions//notice")
	})
}

// A replica of the version before writes a roster and no record. It reads as "earlier", beside one
// of this version and after it.
func TestAReplicaWithoutARecordIsOfAnEarlierVersion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		l.alive["old"] = true
		a := l.replica("a", "v2")
		l.look(a)
		l.is("it may say it yet", rows(a), "a v2 here, old live")
		l.is("it may say it yet", codes(a), "")
		l.wait(unsaidFor+lookEvery, a)
		l.is("it does not", rows(a), "a v2 here, old earlier live")
		l.is("it does not", codes(a), "mixed-versions//notice")
		if n := a.Versions(); n["v2"] != 1 || n[Earlier] != 1 || len(n) != 2 {
			t.Errorf("%v", n)
		}
		// It is upgraded, and then put back.
		old := l.replica("old", "v2")
		l.look(old, a)
		l.is("upgraded", rows(a), "a v2 here, old v2 live")
		old.leave()
		l.is("put back", rows(a), "a v2 here, old v2 live") // not read yet
		l.wait(time.Minute, a)
		l.is("put back", rows(a), "a v2 here, old earlier live")
		// One that was killed, and whose place an earlier version has taken.
		old = l.replica("old", "v2")
		l.look(old, a)
		l.wait(staleAfter+time.Minute, a)
		l.is("put back after a kill", rows(a), "a v2 here, old earlier live")
		// That one ends, and nobody knows whether it was stopped.
		l.alive["old"] = false
		l.wait(time.Minute, a)
		l.is("it has ended", rows(a), "a v2 here, old earlier missing")
		l.is("it has ended", codes(a), "replica-missing/old/notice")
		if p := a.Problems()[0]; !strings.Contains(p.Text, "does not say that it stops") {
			t.Errorf("%+v", p)
		}
	})
}

// A goodbye is that of the process that wrote it. An earlier version that took its place and was
// killed has said none.
func TestAnOldGoodbyeDoesNotCountForTheNextProcess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		a, b := l.replica("a", "v2"), l.replica("b", "v2")
		l.look(a, b)
		b.leave()
		l.wait(time.Minute, a) // the roster of b is that of an earlier version now
		l.is("put back", rows(a), "a v2 here, b earlier live")
		l.alive["b"] = false
		l.wait(time.Minute, a)
		l.is("killed", rows(a), "a v2 here, b earlier missing")
	})
}

// Records of other versions are read, and what they have more is kept.
func TestARecordGrows(t *testing.T) {
	l := newLab(t)
	later := `{"version":"v9","started":"2026-11-30T03:00:00Z","at":"2026-11-30T03:12:00Z","stopped":true,"zone":"x"}`
	l.put("a", later)
	l.put("c", `broken`)
	a := l.replica("a", "v1")
	l.look(a)
	val, _, err := l.store.Get(t.Context(), keyOf("a"))
	var got map[string]any
	if err != nil || json.Unmarshal(val, &got) != nil || got["zone"] != "x" || got["version"] != "v1" ||
		got["stopped"] != false {
		t.Errorf("%s %v", val, err)
	}
	if rec, err := decode([]byte(`{}`)); err != nil || rec.Version != "" || rec.Stopped {
		t.Errorf("%+v %v", rec, err)
	}
	if rec, err := decode([]byte(`{"version":"` + strings.Repeat("é", maxText) + `"}`)); err != nil ||
		len(rec.Version) > maxText {
		t.Errorf("%+v %v", rec, err)
	}
}

func (l *lab) put(name, val string) {
	l.t.Helper()
	if _, err := l.store.Swap(l.t.Context(), keyOf(name), 0, []byte(val)); err != nil {
		l.t.Fatal(err)
	}
}

func TestAReplicaThatDoesNotAnswerIsNamed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		a, b := l.replica("a", "v1"), l.replica("b", "v1")
		l.look(a, b)
		l.asked = func(p fleet.Peer) error {
			if p.Replica == "b" {
				return errors.New("connection refused")
			}
			return nil
		}
		l.look(a, b)
		l.is("at once", codes(a), "")
		if one := a.List()[1]; one.Silent != "connection refused" {
			t.Errorf("%+v", one)
		}
		l.wait(unreachableAfter+lookEvery, a, b)
		l.is("later", codes(a), "replica-unreachable/b/warning")
		l.is("the other way", codes(b), "")
		if p := a.Problems()[0]; !strings.Contains(p.Text, "connection refused") ||
			!strings.Contains(p.Text, "http://b") {
			t.Errorf("%+v", p)
		}
		l.asked = func(fleet.Peer) error { return nil }
		l.look(a)
		l.is("it answers", codes(a), "")

		// One on another machine cannot ask this one.
		a.Unreachable(fleet.Peer{Replica: "b", Admin: "http://b"})
		l.is("this one's address", codes(a), "replica-unreachable/b/warning")
		if p := a.Problems()[0]; !strings.Contains(p.Next, "admin_listen") {
			t.Errorf("%+v", p)
		}
		l.alive["b"] = false
		b.leave()
		l.wait(time.Minute, a)
		l.is("it has stopped", codes(a), "")
		b = l.replica("b", "v1")
		l.look(b, a)
		l.is("it is back", codes(a), "replica-unreachable/b/warning")
		a.Unreachable(fleet.Peer{Replica: "b", Admin: "http://10.0.0.2:18080"})
		l.is("its address before was meant", codes(a), "")
	})
}

func TestRunSaysGoodbyeOnlyWhenNothingFailed(t *testing.T) {
	for _, failed := range []bool{false, true} {
		l := newLab(t)
		a := l.replica("a", "v1")
		ctx, cancel := context.WithCancelCause(t.Context())
		done := make(chan error)
		go func() { done <- a.Run(ctx) }()
		for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
			if _, _, err := l.store.Get(t.Context(), keyOf("a")); err == nil {
				break
			}
			if time.Now().After(deadline) {
				t.Fatal("no record was written")
			}
		}
		if failed {
			cancel(errors.New("the admin API failed"))
		} else {
			cancel(nil)
		}
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		val, _, err := l.store.Get(t.Context(), keyOf("a"))
		if err != nil {
			t.Fatal(err)
		}
		if rec, err := decode(val); err != nil || rec.Stopped == failed {
			t.Errorf("failed %v: %s %v", failed, val, err)
		}
	}
}

func TestVersionsAreBounded(t *testing.T) {
	l := newLab(t)
	a := l.replica("a", "v0")
	for i := range 30 {
		name := fmt.Sprintf("r%02d", i)
		l.alive[name] = true
		val, err := record{Version: fmt.Sprintf("v%d", i), Started: time.Now(), At: time.Now()}.encode()
		if err != nil {
			t.Fatal(err)
		}
		l.put(name, string(val))
	}
	l.look(a)
	n := a.Versions()
	if len(n) != maxVersions+1 || n["v0"] != 2 || n[other] != 20 {
		t.Errorf("%v", n)
	}
	if all := a.Problems(); len(all) != 1 || !strings.Contains(all[0].Text, ", 20 more") {
		t.Errorf("%+v", all)
	}
	if one := a.List()[0]; one.State != api.ReplicaHere {
		t.Errorf("%+v", one)
	}
}
