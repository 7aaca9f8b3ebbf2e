package rotation

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-tls/lockstep/keysource"
)

func TestANewScopeEncryptsAtOnce(t *testing.T) {
	l := newLab(t)
	l.want(Steady, "1")
	if l.r.Generation != 1 || l.r.underway() {
		t.Errorf("%+v", l.r)
	}
	l.after(l.p.Period - time.Nanosecond)
}

func TestARotationGoesOnOnlyWhenEveryLiveMemberAccepted(t *testing.T) {
	l := newLab(t)
	l.after(l.p.Period, "distributing")
	l.want(Distributing, "1 2")
	l.accept("a", "b")
	l.after(time.Second)
	l.accept("c")
	l.next("promoting")
	l.want(Promoting, "2 1")
	if last := l.last(); last.Nodes != 3 || last.Took != time.Second ||
		last.Key != testKey(2).ID() || last.LeftBehind != nil {
		t.Errorf("%+v", last)
	}
	l.accept("b", "c")
	l.after(time.Second)
	l.accept("a")
	l.next("done")
	l.want(Steady, "2 1")
	if l.r.Ended != 1 || l.r.underway() || l.r.Wanted != nil {
		t.Errorf("%+v", l.r)
	}
	l.after(l.p.Period - time.Second - 1)
	l.after(1, "distributing") // counted from when the key first encrypted
}

func TestDistributeARequestedKey(t *testing.T) {
	l := newLab(t)
	k := testKey(77)
	r, n, err := l.r.Ask(Request{By: "me", Why: "from nginx", Key: &k}, l.p, l.now)
	if l.do(r, err); n != 1 {
		t.Errorf("rotation %d", n)
	}
	l.next("distributing")
	l.want(Distributing, "1 77")
	if last := l.last(); last.By != "me" || last.Why != "from nginx" || last.Rotation != 1 {
		t.Errorf("%+v", last)
	}
	l.refuse("b", "no")
	l.next("taken-back")
	l.want(Steady, "1")
	l.accept("b")
	l.after(time.Second, "distributing")
	l.want(Distributing, "1 77") // the same again, not a fresh one
}

func TestASettledEmptyFleetRotatesWithoutWaiting(t *testing.T) {
	l := newLab(t)
	clear(l.members)
	l.after(l.p.Period, "distributing", "promoting", "done")
	l.want(Steady, "2 1")
}

// A decision is made on rosters that were read before it: one swap must not lead further than to
// the next ring.
func TestNextMakesOneRingACall(t *testing.T) {
	l := newLab(t)
	clear(l.members)
	l.now = l.now.Add(l.p.Period)
	for _, want := range []Phase{Distributing, Promoting, Steady} {
		n, changed := l.r.Next(l.p, l.tally(), l.now, l.key)
		if !changed || n.Phase != want || n.Generation > l.r.Generation+1 {
			t.Fatalf("%s g%d after %s g%d", n.Phase, n.Generation, l.r.Phase, l.r.Generation)
		}
		l.r = n
	}
}

func TestWhomAPhaseWaitsFor(t *testing.T) {
	const lease = 75 * time.Second
	for name, c := range map[string]struct {
		c     Member // with the other two having accepted
		still time.Duration
		done  time.Duration // 0: it waits for max_key_age
	}{
		"a slow member":         {c: Member{Answered: true, Connected: true}, still: time.Hour},
		"an away member":        {c: Member{Answered: true}, still: lease - 1, done: lease},
		"a candidate":           {c: Member{Connected: true}, still: lease - 1, done: lease},
		"a candidate gone away": {c: Member{}, still: lease - 1, done: lease},
		"a refusing member, after the grace": {
			c: Member{Answered: true, Connected: true, Refused: 1, Words: "no"}, still: time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			l.after(l.p.Period, "distributing")
			l.accept("a", "b")
			c.c.Node, c.c.Nr, c.c.Floor, c.c.Since = "c", 1, 1, l.now
			l.members["c"] = &c.c
			l.after(c.still)
			if why := l.r.blockedBy(l.p, l.tally(), l.now); len(why) != 1 || !strings.HasPrefix(why[0], "c: ") {
				t.Errorf("blocked by %q", why)
			}
			if c.done > 0 {
				l.after(c.done-c.still, "promoting")
			}
		})
	}
	t.Run("nobody who accepted, wherever it is", func(t *testing.T) {
		l := newLab(t)
		l.after(l.p.Period, "distributing")
		l.accept("a", "b", "c")
		l.lose("c")
		l.next("promoting")
	})
}

// Nobody knows for how many nodes a sum stands, so there is no quorum without it.
func TestASumIsNotLeftBehindForAQuorum(t *testing.T) {
	l := newLab(t)
	l.p.Laggard, l.p.Quorum = 30*time.Second, 2.0/3
	l.members["c"].Sum = true
	l.after(l.p.Period, "distributing")
	l.accept("a", "b")
	l.after(time.Hour)
	l.after(l.p.MaxKeyAge-l.p.Period-time.Hour, "promoting")
}

func TestLaggardsAreLeftBehindAtADeadlineIfThereIsAQuorum(t *testing.T) {
	l := newLab(t)
	l.p.Laggard, l.p.Quorum = 30*time.Second, 2.0/3
	l.after(l.p.Period, "distributing")
	l.accept("a")
	l.after(31 * time.Second) // one of three is no quorum
	l.accept("b")
	l.next("promoting")
	if got := l.last().LeftBehind; !slices.Equal(got, []string{"c"}) {
		t.Errorf("left behind %q", got)
	}
	l.accept("a", "b")
	l.after(29 * time.Second)
	l.after(time.Second, "done")
}

func TestAtMaxKeyAgeARotationGoesOnAfterALease(t *testing.T) {
	l := newLab(t)
	l.now = l.now.Add(10 * time.Hour) // nobody was there to rotate
	l.next("distributing")
	l.accept("a", "b")
	l.after(l.p.NodeLease - 1)
	l.after(1, "promoting")
	if got := l.last().LeftBehind; !slices.Equal(got, []string{"c"}) {
		t.Errorf("left behind %q", got)
	}
	l.accept("a", "b")
	l.after(l.p.NodeLease-1, []string{}...)
	l.after(1, "done")
	if k := l.r.Keys[1]; !k.UnusedSince.Equal(l.now) {
		t.Errorf("the abandoned key drains since %s, want %s", k.UnusedSince, l.now)
	}
	l.after(l.p.TicketLifetime, "distributing")
	l.want(Distributing, "2 1 3")
	l.after(margin(l.p.TicketLifetime), "retired") // although c still encrypts with it
	l.want(Distributing, "2 3")
}

func TestARefusalTakesTheNewKeyBack(t *testing.T) {
	l := newLab(t)
	l.after(l.p.Period, "distributing")
	l.accept("a", "b")
	began := l.now
	for wait := time.Second; l.now.Sub(began) < l.p.RefuseGrace; wait *= 2 {
		l.refuse("c", "no thanks")
		l.next("taken-back")
		l.want(Steady, "1")
		if last := l.last(); last.By != "c" || last.Why != "no thanks" || l.r.RetryAt.Sub(l.now) != wait {
			t.Errorf("%+v; retry in %s, want %s", last, l.r.RetryAt.Sub(l.now), wait)
		}
		if why := strings.Join(l.r.blockedBy(l.p, l.tally(), l.now), "; "); !strings.Contains(why,
			"c: refused the new key, which was taken back: no thanks; the next try is in ") {
			t.Errorf("blocked by %q", why)
		}
		l.accept("a", "b", "c")
		l.after(wait - 1)
		l.after(1, "distributing")
		l.accept("a", "b")
	}
	if l.r.Begun != 1 || l.r.Tries != 9 {
		t.Errorf("rotation %d, %d tries", l.r.Begun, l.r.Tries)
	}
	l.refuse("c", "no thanks") // from now on it is only waited for
	l.after(time.Minute)
	l.accept("c")
	l.next("promoting")
	if l.accept("a", "b", "c"); l.r.Refusers == nil {
		t.Error("the refusal was forgotten before the rotation ended")
	}
	l.next("done")
	if l.r.Refusers != nil || l.r.Tries != 0 || !l.r.RetryAt.IsZero() {
		t.Errorf("%+v", l.r)
	}
}

func TestWhoseRefusalTakesNothingBack(t *testing.T) {
	for name, change := range map[string]func(l *lab){
		"one that was excluded":        func(l *lab) { l.r.Excluded = map[string]time.Time{"c": l.now.Add(time.Hour)} },
		"one whose lease has ended":    func(l *lab) { l.members["c"].Connected = false },
		"a refusal of an earlier ring": func(l *lab) { l.members["c"].Refused = 1 },
		"any where refuse_grace is 0":  func(l *lab) { l.p.RefuseGrace = 0 },
		"any once the new key is in use ": func(l *lab) {
			l.accept("a", "b", "c")
			l.next("promoting")
			l.refuse("c", "no")
		},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			l.after(l.p.Period, "distributing")
			l.refuse("c", "no")
			change(l)
			l.accept("a")
			l.next()
			if len(l.r.Refusers) != 0 {
				t.Errorf("noted %v", l.r.Refusers)
			}
		})
	}
}

func TestAKeyLeavesALifetimeAfterItsLastUse(t *testing.T) {
	l := newLab(t)
	l.p.Period, l.p.MaxKeyAge = 20*time.Hour, 24*time.Hour
	l.ask()
	l.next("distributing")
	l.accept("a", "b", "c")
	l.next("promoting")
	if !l.r.Keys[1].UnusedSince.IsZero() {
		t.Error("the drain began although all may encrypt with it")
	}
	l.accept("a", "b")
	l.after(time.Minute)
	l.accept("c")
	l.next("done")
	if !l.r.Keys[1].UnusedSince.Equal(l.now) ||
		!l.r.retiresAt(l.p, l.r.Keys[1]).Equal(l.now.Add(2*time.Hour+2*time.Minute)) {
		t.Errorf("drains since %s, retires %s", l.r.Keys[1].UnusedSince, l.r.retiresAt(l.p, l.r.Keys[1]))
	}
	l.after(time.Hour)
	// comes back with g1
	l.members["old"] = &Member{Node: "old", Nr: 1, Floor: 1, Answered: true, Connected: true, Since: l.now}
	l.next()
	if !l.r.Keys[1].UnusedSince.IsZero() || !l.r.retiresAt(l.p, l.r.Keys[1]).IsZero() {
		t.Error("the drain goes on although somebody encrypts with the key again")
	}
	l.after(time.Minute)
	l.accept("old")
	l.next()
	l.after(drainsFor(l.p.TicketLifetime) - 1)
	l.after(1, "retired")
	l.want(Steady, "2")
}

func TestSeveralKeysDrainAtOnce(t *testing.T) {
	l := newLab(t)
	for range 3 {
		l.rotate()
		l.now = l.now.Add(10 * time.Minute)
	}
	l.want(Steady, "4 3 2 1")
	l.accept("a", "b", "c")
	l.after(92*time.Minute, "retired", "distributing")
	l.want(Distributing, "4 3 2 5")
	l.accept("a", "b", "c") // a retirement between does not take the floor away
	l.next("promoting")
	l.want(Promoting, "5 4 3 2")
}

func TestAHigherGenerationStartsAllAnew(t *testing.T) {
	for _, phase := range []Phase{Steady, Distributing, Promoting, Burning} {
		t.Run(string(phase), func(t *testing.T) {
			l := newLab(t)
			l.rotate()
			ring := l.phase(phase)
			l.highest = 40
			alone, _ := l.r.Next(l.p, Tally{Highest: 40}, l.now.Add(time.Minute), l.key)
			for _, k := range alone.Keys {
				if !k.UnusedSince.IsZero() {
					t.Error("the drain goes on from what the store may have lost")
				}
			}
			l.next("rebased")
			if l.r.Generation != 41 || l.r.Phase != phase || l.ring() != ring {
				t.Fatalf("%s g%d [%s]", l.r.Phase, l.r.Generation, l.ring())
			}
			l.accept("a", "b", "c")
			l.next(map[Phase][]string{Distributing: {"promoting"}, Promoting: {"done"}, Burning: {"burnt"}}[phase]...)
		})
	}
}

// phase brings the lab into a phase in which nobody has accepted, and returns the ring.
func (l *lab) phase(p Phase) string {
	l.t.Helper()
	switch p {
	case Distributing:
		l.ask()
		l.next("distributing")
	case Promoting:
		l.ask()
		l.next("distributing")
		l.accept("a", "b", "c")
		l.next("promoting")
	case Burning:
		l.r, _ = l.r.Burn("me", "leaked", l.key(), l.now)
	}
	l.next()
	l.want(p, l.ring())
	return l.ring()
}

func TestAFullRingWaitsForAKeyToRetire(t *testing.T) {
	l := newLab(t)
	l.fill()
	l.after(l.p.Period)
	if why := l.r.blockedBy(l.p, l.tally(), l.now); len(why) != 1 ||
		!strings.Contains(why[0], "the ring is full (15 keys drain)") {
		t.Errorf("blocked by %q", why)
	}
	before := len(l.r.Keys)
	l.now = l.now.Add(l.p.TicketLifetime)
	l.next(append(slices.Repeat([]string{"retired"}, keysource.MaxRing-1), "distributing")...)
	if before != keysource.MaxRing || len(l.r.Keys) != 2 {
		t.Errorf("%d keys, then %d", before, len(l.r.Keys))
	}
}
