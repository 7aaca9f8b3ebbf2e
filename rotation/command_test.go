package rotation

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-tls/lockstep/keysource"
)

func refusedWith(t *testing.T, err error, text string) {
	t.Helper()
	if !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), text) {
		t.Errorf("got %v, want a refusal that says %q", err, text)
	}
}

func TestAskJoinsOrIsRefused(t *testing.T) {
	l := newLab(t)
	key, other := testKey(70), testKey(71)
	l.phase(Distributing)
	for range 2 {
		r, n, err := l.r.Ask(Request{By: "second"}, l.p, l.now)
		if err != nil || n != 1 || r.Wanted.By != "me" {
			t.Errorf("joined %d as %+v, %v", n, r.Wanted, err)
		}
		_, _, err = l.r.Ask(Request{Key: &key}, l.p, l.now)
		refusedWith(t, err, "rotation 1 is under way")
		l.refuse("a", "no")
		l.next("taken-back") // and so between two tries
		if r, n, err := l.r.Ask(Request{}, l.p, l.now); err != nil || n != 1 || r.RetryAt != l.r.RetryAt {
			t.Errorf("joined %d, %v", n, err)
		}
		l.after(time.Minute, "distributing")
	}
	l = newLab(t)
	l.phase(Burning)
	_, _, err := l.r.Ask(Request{}, l.p, l.now)
	refusedWith(t, err, "a burn is under way (1)")

	l = newLab(t)
	first := l.r.Keys[0].Key
	l.do(l.r.Exclude("nobody", "me", "", l.now.Add(time.Second), l.now))
	_, _, err = l.r.Ask(Request{Key: &first}, l.p, l.now)
	refusedWith(t, err, "holds a key of that name already")
	r, n, err := l.r.Ask(Request{Key: &key}, l.p, l.now)
	if err != nil || n != 1 {
		t.Fatal(n, err)
	}
	if _, _, err := r.Ask(Request{Key: &other}, l.p, l.now); !errors.Is(err, ErrRefused) {
		t.Errorf("a second key while the first waits: %v", err)
	}
	l.fill()
	_, _, err = l.r.Ask(Request{}, l.p, l.now)
	refusedWith(t, err, "the ring has no room for a rotation that is asked for: it holds 16 keys")
	_, _, err = l.r.Rollback("me", "", l.p, l.tally(), l.now, l.key())
	refusedWith(t, err, "the ring has no room for the fresh key")
}

func TestWhichKeysAreAccepted(t *testing.T) {
	l := newLab(t)
	burnt := l.r.Keys[0].Key
	l.r, _ = l.r.Burn("me", "", l.key(), l.now)
	twin := l.r.Keys[0].Key
	twin[79] ^= 1
	for name, c := range map[string]struct {
		k    keysource.TicketKey
		want error
	}{
		"good":             {testKey(50), nil},
		"all zero":         {keysource.TicketKey{}, keysource.ErrBadTicketKey},
		"burnt":            {burnt, ErrRefused},
		"in the ring":      {l.r.Keys[0].Key, ErrRefused},
		"of the same name": {twin, ErrRefused},
		// another key to every node
		"burnt, other name": {func() keysource.TicketKey { k := burnt; k[0] ^= 1; return k }(), nil},
	} {
		if err := l.r.acceptsKey(c.k); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		} else if err != nil && strings.Contains(err.Error(), string(c.k[16:24])) {
			t.Errorf("%s: the error quotes the key", name)
		}
	}
}

func TestABurnEndsWhenNobodyMayHoldABurntKey(t *testing.T) {
	for _, phase := range []Phase{Steady, Distributing, Promoting, Burning} {
		t.Run(string(phase), func(t *testing.T) {
			l := newLab(t)
			l.rotate()
			l.phase(phase)
			old := l.r.Ring().Keys
			r, n := l.r.Burn("me", "leaked", l.key(), l.now)
			l.do(r, nil)
			if n != l.r.Begun || len(l.r.Keys) != 1 || l.r.Wanted != nil {
				t.Fatalf("burn %d: %+v", n, l.r)
			}
			for _, k := range old {
				if !l.r.isBurnt(k) {
					t.Errorf("%s is not burnt", k.ID())
				}
			}
			l.do(l.r.Exclude("b", "me", "", l.now.Add(24*time.Hour), l.now))
			l.lose("c")
			l.accept("a")
			l.after(l.p.NodeLease - 1)
			if why := strings.Join(l.r.blockedBy(l.p, l.tally(), l.now), "\n"); !strings.Contains(why, "b: ") ||
				!strings.Contains(why, "c: away") {
				t.Errorf("blocked by %q", why)
			}
			l.after(1) // c's lease is over; the excluded one holds it up
			l.after(20 * time.Hour)
			l.accept("b")
			l.next("burnt", "distributing")
		})
	}
}

func TestABurnTakesTheRequestedKeyAlong(t *testing.T) {
	for _, distributed := range []bool{false, true} {
		l := newLab(t)
		k := testKey(60)
		r, _, err := l.r.Ask(Request{By: "me", Key: &k}, l.p, l.now)
		if l.do(r, err); distributed {
			l.next("distributing")
		}
		r, _ = l.r.Burn("me", "", l.key(), l.now)
		if want := []string{
			testKey(1).Fingerprint(), k.Fingerprint(),
		}; !slices.Equal(slices.Sorted(slices.Values(r.Burnt)), slices.Sorted(slices.Values(want))) {
			t.Errorf("burnt %q, want each once of %q", r.Burnt, want)
		}
	}
}

func TestRollbackWhileDistributingDropsTheNewKey(t *testing.T) {
	l := newLab(t)
	l.after(l.p.Period, "distributing")
	l.accept("a")
	r, n, err := l.r.Rollback("me", "why not", l.p, l.tally(), l.now, l.key())
	if l.do(r, err); n != 0 {
		t.Errorf("rotation %d begins", n)
	}
	l.want(Steady, "1")
	if l.r.underway() {
		t.Error("the rotation goes on")
	}
	// the period is over, and still no new key comes the next moment
	l.after(l.p.Period-1, []string{}...)
	l.after(1, "distributing")
}

func TestRollbackPutsTheEarlierKeyFirst(t *testing.T) {
	for _, phase := range []Phase{Promoting, Steady} {
		t.Run(string(phase), func(t *testing.T) {
			l := newLab(t)
			if phase == Steady {
				l.rotate()
			}
			l.phase(phase)
			r, n, err := l.r.Rollback("me", "", l.p, l.tally(), l.now, testKey(9))
			if l.do(r, err); n != 2 {
				t.Errorf("rotation %d", n)
			}
			l.want(Distributing, "1 2 9")
			if k := l.r.Keys[1]; k.Demoted != l.r.Generation-1 || !k.UnusedSince.IsZero() {
				t.Errorf("the later key does not drain: %+v", k)
			}
			l.next()
			l.accept("a", "b", "c")
			l.next("promoting")
			l.want(Promoting, "9 1 2")
		})
	}
}

func TestRollbackIsRefused(t *testing.T) {
	for name, c := range map[string]struct {
		set  func(l *lab)
		want string
	}{
		"nothing drains": {func(l *lab) {}, "no earlier key drains"},
		"after a burn":   {func(l *lab) { l.rotate(); l.phase(Burning) }, "a burn cannot be rolled back"},
		"and its end": {func(l *lab) { l.rotate(); l.phase(Burning); l.accept("a", "b", "c"); l.next("burnt") },
			"no earlier key drains"},
		"too old": {func(l *lab) { l.rotate(); l.now = l.now.Add(l.p.MaxKeyAge) },
			"beyond max_key_age (4h0m0s): rotate instead"},
		"somebody lacks it": {func(l *lab) {
			l.rotate()
			l.rotate()
			l.members["c"].Floor = 1
		}, "not every live node holds the earlier key"},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			c.set(l)
			before := l.ring()
			r, n, err := l.r.Rollback("me", "", l.p, l.tally(), l.now, l.key())
			refusedWith(t, err, c.want)
			if l.r = r; n != 0 || l.ring() != before {
				t.Errorf("rotation %d, [%s]", n, l.ring())
			}
		})
	}
}

func TestExcludeLetsTheFleetGoOn(t *testing.T) {
	l := newLab(t)
	l.phase(Distributing)
	l.accept("a", "b")
	l.next()
	l.do(l.r.Exclude("c", "me", "broken disk", l.now.Add(time.Hour), l.now))
	if last := l.last(); last.What != "excluded" ||
		!strings.Contains(last.Why, "c until 2026-01-02T04:04:05Z: broken disk") {
		t.Errorf("%+v", last)
	}
	l.next("promoting")
	if c := l.r.count(l.p, l.tally(), l.now); c != (Count{Live: 3, Stale: 2, Excluded: 1}) {
		t.Errorf("%+v", c)
	}
	l.accept("a", "b")
	l.next("done")
	if !l.r.Keys[1].UnusedSince.IsZero() {
		t.Error("the old key drains, although the excluded node encrypts with it")
	}
	l.do(l.r.Exclude("c", "me", "", l.now, l.now))
	if l.last().What != "included" || l.last().Why != "c" || len(l.r.Excluded) != 0 {
		t.Errorf("%+v", l.last())
	}
	if _, err := l.r.Exclude("c", "me", "", l.now, l.now); !errors.Is(err, keysource.ErrNotExist) {
		t.Errorf("including one that is not excluded: %v", err)
	}
	if _, err := l.r.Exclude("", "me", "", l.now.Add(1), l.now); err == nil {
		t.Error("excluded nobody")
	}
	l.do(l.r.Exclude("c", "me", "", l.now.Add(time.Minute), l.now))
	if why := l.last().Why; strings.HasSuffix(why, ": ") {
		t.Errorf("without a reason the line ends in %q", why)
	}
	l.after(time.Minute)
	if len(l.r.Excluded) != 0 {
		t.Error("the exclusion did not end")
	}
}

func TestExcludingTheLastRefuserEndsTheBackOff(t *testing.T) {
	l := newLab(t)
	l.phase(Distributing)
	for range 3 { // the grace goes on, and the pauses grow
		l.refuse("b", "no")
		l.refuse("c", "no")
		l.next("taken-back")
		l.now = l.r.RetryAt
		l.next("distributing")
	}
	l.refuse("b", "no")
	l.refuse("c", "no")
	l.next("taken-back")
	l.next()
	put := l.r.RetryAt
	if v := l.r.View(l.p, l.tally(), l.now); v.Phase != Steady || !v.Underway || v.RetryAt != put {
		t.Errorf("between two tries: %s, under way is %t, tried again at %s", v.Phase, v.Underway, v.RetryAt)
	}
	if put.Sub(l.now) < 4*time.Second {
		t.Fatalf("the next try is in %s", put.Sub(l.now))
	}
	l.do(l.r.Exclude("c", "me", "", l.now.Add(time.Hour), l.now))
	if l.next(); l.r.RetryAt != put {
		t.Error("it is tried again, although a node that refused is still waited for")
	}
	l.do(l.r.Exclude("b", "me", "", l.now.Add(time.Hour), l.now))
	l.next("distributing")
	if v := l.r.View(l.p, l.tally(), l.now); !v.RetryAt.IsZero() {
		t.Errorf("while a key is distributed, tried again at %s", v.RetryAt)
	}

	// a pause that has another reason stays
	l = newLab(t)
	l.phase(Distributing)
	r, _, err := l.r.Rollback("me", "", l.p, l.tally(), l.now, l.key())
	l.do(r, err)
	put = l.r.RetryAt
	l.do(l.r.Exclude("b", "me", "", l.now.Add(time.Hour), l.now))
	if put.IsZero() || l.r.RetryAt != put {
		t.Errorf("the pause after a rollback went from %s to %s", put, l.r.RetryAt)
	}
}

func TestPlan(t *testing.T) {
	if p := (Rollout{}).Plan(DefaultPolicy(), Tally{}, epoch); !slices.Equal(p.Blocked,
		[]string{"the scope has no key yet"}) {
		t.Errorf("%+v", p)
	}
	l := newLab(t)
	l.members["b"].Refused, l.members["b"].Words = 1, "cannot"
	l.lose("c")
	before, _ := l.r.Encode()
	p := l.r.Plan(l.p, l.tally(), l.now)
	if !slices.Equal(p.Nodes, []string{"a", "b", "c"}) || len(p.Steps) != 3 ||
		p.Drains != testKey(1).ID() || p.DrainsFor != 122*time.Minute {
		t.Errorf("%+v", p)
	}
	if want := []string{
		"b: refused g1, may hold g1: cannot", "c: away for 0s, its lease ends in 1m15s; may hold g1",
	}; !slices.Equal(p.Blocked, want) {
		t.Errorf("blocked by %q", p.Blocked)
	}
	if after, _ := l.r.Encode(); string(before) != string(after) {
		t.Error("a plan changes something")
	}
	if p.Notes != nil {
		t.Errorf("notes %q of a scope without client certificates", p.Notes)
	}
	for certs, want := range map[string]string{"a1": "client_certs lists 1 CA:", "a1,b2": "client_certs lists 2 CAs:"} {
		asks := l.p
		asks.ClientCerts = certs
		if p := l.r.Plan(asks, l.tally(), l.now); len(p.Notes) != 1 || !strings.HasPrefix(p.Notes[0], want) {
			t.Errorf("%s: notes %q, want %s…", certs, p.Notes, want)
		}
	}
	l.accept("b")
	l.phase(Distributing)
	p = l.r.Plan(l.p, l.tally(), l.now.Add(2*time.Second))
	if len(p.Steps) != 1 || !strings.Contains(p.Steps[0], "rotation 1 is under way (distributing)") ||
		len(p.Blocked) != 3 ||
		p.Blocked[0] != "a: has not accepted g2 for 2s; may hold g1" {
		t.Errorf("%+v", p)
	}
}
