package rotation

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/lockstep-tls/lockstep/keysource"
)

// asks asks as somebody, goes through the rotation, and returns the error.
func (l *lab) asks(by string) error {
	l.t.Helper()
	r, _, err := l.r.Ask(Request{By: by, At: l.now}, l.p, l.now)
	if err != nil {
		return err
	}
	l.do(r, nil)
	l.next("distributing")
	l.accept("a", "b", "c")
	l.next("promoting")
	l.accept("a", "b", "c")
	l.next("done")
	return nil
}

// asksUntilRefused asks as somebody as often as that is granted.
func (l *lab) asksUntilRefused(by string) (granted int, err error) {
	l.t.Helper()
	for granted <= keysource.MaxRing {
		if err = l.asks(by); err != nil {
			return granted, err
		}
		granted++
	}
	l.t.Fatalf("%s is never refused", by)
	return granted, nil
}

// A key of the default policy drains for 2 h 2 min. So three drain at most by the period itself.
func TestOneRequesterLeavesRoomForOthersAndAllForThePeriod(t *testing.T) {
	l := newLab(t)
	before := l.r.room(l.p, l.now)
	if before.Left != 12 || before.LeftToOne != 6 || !before.AgainAt.IsZero() || len(before.By) != 0 {
		t.Errorf("at the beginning: %+v", before)
	}
	var total int
	for i, c := range []struct {
		by      string
		granted int
		words   string
	}{
		{"NATS", 6, "NATS has brought 6 of the ring's 7 keys, and the room that is left is for others; ask again in "},
		{"token ci (claims NATS)", 3, "token ci has brought 3 of the ring's 10 keys"},
		{"token ci", 0, "token ci has brought 3 of the ring's 10 keys"},
		{"token b", 1, "token b has brought 1 of"},
		{"token c", 1, "token c has brought 1 of"},
		{"token d", 1, "the ring has no room for a rotation that is asked for: it holds 13 keys, " +
			"and the other places are for the rotations of the period; ask again in "},
		{"token e", 0, "no room"},
	} {
		granted, err := l.asksUntilRefused(c.by)
		if granted != c.granted || !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), c.words) {
			t.Fatalf("%d. %s: %d granted, %v", i, c.by, granted, err)
		}
		total += granted
	}
	after := l.r.room(l.p, l.now)
	if total != before.Left || after.Left != 0 || after.LeftToOne != 0 || len(after.By) != 5 {
		t.Errorf("%d of %d granted, then %+v", total, before.Left, after)
	}
	if q := after.For("NATS"); q.Keys != 6 || q.Left != 0 || !q.AgainAt.After(l.now) {
		t.Errorf("NATS: %+v", q)
	}
	if q := after.For("token new (claims NATS)"); q.Keys != 0 || q.Left != 0 || q.AgainAt != after.AgainAt {
		t.Errorf("a new one: %+v", q)
	}
	// A rollback has its place, a burn needs none, and the period rotates.
	l.do(firstOf(l.r.Rollback("me", "", l.p, l.tally(), l.now, l.key())))
	l.accept("a", "b", "c")
	l.next("promoting")
	l.accept("a", "b", "c")
	l.next("done")
	for range 4 {
		l.after(l.p.Period-time.Second, skip...)
		l.after(time.Second, slices.Concat(skip, []string{"distributing"})...)
		l.accept("a", "b", "c")
		l.next("promoting")
		l.accept("a", "b", "c")
		l.next("done")
	}
}

// skip stands for any number of keys that retire.
var skip = []string{"…retired"}

func firstOf(r Rollout, _ uint64, err error) (Rollout, error) { return r, err }

func TestWhoAsksDuringARotationJoinsIt(t *testing.T) {
	l := newLab(t)
	_, err := l.asksUntilRefused("NATS")
	if !errors.Is(err, ErrRefused) {
		t.Fatal(err)
	}
	l.after(l.p.Period, "distributing")
	for range 200 {
		r, n, err := l.r.Ask(Request{By: "NATS"}, l.p, l.now)
		if err != nil || n != l.r.Begun || r.Lines != l.r.Lines {
			t.Fatalf("joined %d (%d), %v", n, l.r.Begun, err)
		}
	}
}

func TestABurnIsNeverRefusedForRoom(t *testing.T) {
	l := newLab(t)
	l.fill()
	r, _ := l.r.Burn("me", "leaked", l.key(), l.now)
	l.do(r, nil)
	l.accept("a", "b", "c")
	l.next("burnt")
	if m := l.r.room(l.p, l.now); m.Left != 12 || len(m.By) != 0 {
		t.Errorf("after a burn: %+v", m)
	}
}

// An earlier version takes each request for which the ring has a place. It leaves a ring in which
// the period finds none. Nothing is asked for then until the period has room again.
func TestAFullRingOfAnEarlierVersionTakesNoRequestUntilThePeriodHasRoom(t *testing.T) {
	l := newLab(t)
	l.fill()
	m := l.r.room(l.p, l.now)
	if m.Left != 0 || m.AgainAt.IsZero() {
		t.Fatalf("%+v", m)
	}
	l.now = m.AgainAt
	for changed := true; changed; {
		l.r, changed = l.r.Next(l.p, l.tally(), l.now, l.key)
		l.accept("a", "b", "c")
	}
	if _, _, err := l.r.Ask(Request{By: "other"}, l.p, l.now); err != nil {
		t.Errorf("at %s: %v", m.AgainAt.Sub(epoch), err)
	}
}

func TestTheTightestPolicyStillTakesOneRequest(t *testing.T) {
	l := newLab(t)
	l.p.Period, l.p.TicketLifetime, l.p.MaxKeyAge = 10*time.Minute, 137*time.Minute, time.Hour
	if err := l.p.Check(); err != nil {
		t.Fatal(err)
	}
	for range 20 { // the ring of the period alone
		l.after(l.p.Period, slices.Concat(skip, []string{"distributing"})...)
		l.accept("a", "b", "c")
		l.next("promoting")
		l.accept("a", "b", "c")
		l.next("done")
	}
	if n, err := l.asksUntilRefused("me"); n != 1 || err == nil {
		t.Errorf("%d granted, %v", n, err)
	}
}

func TestWhoIsMeantByALine(t *testing.T) {
	long := strings.Repeat("x", 300)
	for by, want := range map[string]string{
		"NATS": "NATS", "token ci": "token ci", "token ci (claims bob)": "token ci", "": "",
		"certificate spiffe://a (claims b) (claims c": "certificate spiffe://a (claims b)",
		long + " (claims a)":                          brief(long, maxBy),
	} {
		if got := requester(by); got != want {
			t.Errorf("%q: %q, want %q", by, got, want)
		}
	}
}

// drawAsk draws who asks for a rotation. For nobody only the room of all counts.
func drawAsk(t *rapid.T) string {
	if n := rapid.IntRange(-4, 4).Draw(t, "who"); n > 0 {
		return fmt.Sprintf("requester %d", n)
	}
	return ""
}

// checkedPolicy draws a policy that is taken. Nobody is left behind by it within a test. A node
// that is left behind may use its key for longer than a period, with or without requests.
func checkedPolicy(t *rapid.T) Policy {
	p := drawPolicy(t)
	p.Laggard, p.MaxKeyAge = 0, 24*time.Hour
	if p.Check() != nil {
		t.Skip("no such policy is taken")
	}
	return p
}

func TestTheRotationsOfThePeriodAlwaysFindRoom(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := story{r: Rollout{Scope: "s"}, p: checkedPolicy(t), now: epoch}
		nodes := make([]Member, rapid.IntRange(0, 3).Draw(t, "nodes"))
		for i := range nodes {
			nodes[i] = Member{
				Node: fmt.Sprint(i), Nr: 1, Floor: 1, Answered: true, Connected: true, Stream: uint64(i + 1),
				Since: epoch,
			}
		}
		fleet := func() Tally {
			return Tally{Members: append([]Member(nil), nodes...), AcceptedSince: s.now.Add(-finishWithin)}
		}
		rest := func() {
			for {
				n, changed := s.r.Next(s.p, fleet(), s.now, s.key)
				if !changed {
					break
				}
				if err := holds(s.r, n); err != nil {
					t.Fatal(err)
				}
				if err := s.promoted(s.r, n, fleet()); err != nil {
					t.Fatal(err)
				}
				s.r = n
			}
			if s.r.Phase == Steady && !s.now.Before(s.r.RetryAt) && s.r.rotationDue(s.p, s.now) {
				t.Fatalf("after %s: a rotation is due and finds no room: %d keys", s.now.Sub(epoch), len(s.r.Keys))
			}
		}
		rest()
		pause := rapid.IntRange(0, 15).Draw(t, "pause")
		for range rapid.IntRange(20, 60).Draw(t, "steps") {
			s.now = s.now.Add(time.Duration(rapid.IntRange(0, pause).Draw(t, "pass")) * time.Second)
			rest()
			n, err := s.r, error(nil)
			switch rapid.IntRange(0, 40).Draw(t, "what") {
			case 0:
				n, _ = s.r.Burn("me", "", s.key(), s.now)
			case 1, 2:
				n, _, err = s.r.Rollback("me", "", s.p, fleet(), s.now, s.key())
			case 3:
				if len(nodes) > 0 && s.r.Phase == Distributing {
					m := &nodes[0]
					m.Refused, m.Words = s.r.Generation, "no"
				}
			case 4, 5:
				k := s.key()
				n, _, err = s.r.Ask(Request{By: drawAsk(t), Key: &k}, s.p, s.now)
			default:
				n, _, err = s.r.Ask(Request{By: drawAsk(t)}, s.p, s.now)
			}
			if err == nil {
				s.r = n
			}
			rest()
			for rapid.IntRange(0, 9).Draw(t, "they accept") > 0 {
				before := s.r.Generation
				for i := range nodes {
					if rapid.IntRange(0, 4).Draw(t, "accepts") > 0 {
						nodes[i].Floor, nodes[i].Refused = s.r.Generation, 0
					}
				}
				if rest(); s.r.Generation == before {
					break
				}
			}
		}
	})
}

// Who is refused is told the first moment at which the same request is granted.
func TestWhenToAskAgainIsTheFirstMomentAtWhichThatIsGranted(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := story{r: Rollout{Scope: "s"}, p: checkedPolicy(t), now: epoch}
		until := func(at time.Time) {
			for {
				for changed := true; changed; {
					s.r, changed = s.r.Next(s.p, Tally{}, s.now, s.key)
				}
				due := s.r.Due(s.p, Tally{}, s.now)
				if due.IsZero() || due.After(at) {
					break
				}
				s.now = due
			}
			s.now = at
		}
		until(s.now)
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			until(s.now.Add(time.Duration(rapid.IntRange(0, 3).Draw(t, "pass")) * time.Second))
			by := drawAsk(t)
			said := s.r.room(s.p, s.now).For(by)
			n, _, err := s.r.Ask(Request{By: by}, s.p, s.now)
			if (err == nil) != (said.Left > 0) || (err == nil) != said.AgainAt.IsZero() {
				t.Fatalf("said beforehand %+v, then %v", said, err)
			}
			if err == nil {
				s.r = n
				continue
			}
			until(said.AgainAt.Add(-1))
			if _, _, err := s.r.Ask(Request{By: by}, s.p, s.now); err == nil {
				t.Fatalf("%s is granted before %s", by, said.AgainAt.Sub(epoch))
			}
			until(said.AgainAt)
			if s.r, _, err = s.r.Ask(Request{By: by}, s.p, s.now); err != nil {
				t.Fatalf("%s at the time that was said, %s: %v", by, said.AgainAt.Sub(epoch), err)
			}
		}
	})
}
