package rotation

import (
	"fmt"
	"reflect"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/lockstep-tls/lockstep/keysource"
)

// drawPolicy draws a policy whose times are short and often equal, so that moments meet.
func drawPolicy(t *rapid.T) Policy {
	secs := func(name string, lo, hi int) time.Duration {
		return time.Duration(rapid.IntRange(lo, hi).Draw(t, name)) * time.Second
	}
	return Policy{
		Period:         secs("period", 10, 40),
		TicketLifetime: secs("ticket_lifetime", 10, 60), MaxKeyAge: secs("max_key_age", 40, 90),
		Quorum: rapid.SampledFrom([]float64{0.5, 0.9, 1}).Draw(t, "quorum"), Laggard: secs("laggard", 0, 20),
		RefuseGrace: secs("refuse_grace", 0, 20), NodeLease: secs("node_lease", 5, 30), ClientCerts: "none",
	}
}

func drawTally(t *rapid.T, r Rollout, now time.Time) (all Tally) {
	for i := range rapid.IntRange(0, 4).Draw(t, "members") {
		m := Member{
			Node: fmt.Sprintf("n%d", i), Nr: 1,
			Floor:     rapid.Uint64Range(0, r.Generation).Draw(t, "floor"),
			Answered:  rapid.IntRange(0, 4).Draw(t, "candidate") > 0,
			Connected: rapid.IntRange(0, 3).Draw(t, "away") > 0,
			Since:     now.Add(-time.Duration(rapid.IntRange(0, 40).Draw(t, "since")) * time.Second),
		}
		if m.Connected {
			m.Stream = uint64(i + 1)
		}
		if rapid.IntRange(0, 2).Draw(t, "holds the present ring") > 0 {
			m.Floor = r.Generation
		}
		if m.Answered && rapid.IntRange(0, 5).Draw(t, "refuses") == 0 {
			m.Refused, m.Words = rapid.Uint64Range(1, r.Generation+1).Draw(t, "refused"), "no"
		}
		all.Members = append(all.Members, m)
	}
	if rapid.IntRange(0, 15).Draw(t, "lost") == 0 {
		all.Highest = r.Generation + rapid.Uint64Range(0, 3).Draw(t, "lost writes")
	}
	return all
}

// story is a rollout that went through random events.
type story struct {
	r    Rollout
	p    Policy
	now  time.Time
	made int
}

func (s *story) key() keysource.TicketKey {
	s.made++
	return testKey(s.made)
}

func (s *story) command(t *rapid.T, all Tally) (r Rollout, err error) {
	r = s.r
	switch rapid.IntRange(0, 9).Draw(t, "command") {
	case 0:
		r, _ = r.Burn("me", "", s.key(), s.now)
	case 1, 2:
		r, _, err = r.Rollback("me", "", s.p, all, s.now, s.key())
	case 3:
		r, err = r.Exclude("n1", "me", "",
			s.now.Add(time.Duration(rapid.IntRange(0, 30).Draw(t, "until"))*time.Second), s.now)
	case 4:
		k := s.key()
		r, _, err = r.Ask(Request{By: "me", Key: &k, At: s.now}, s.p, s.now)
	case 5:
		r, _, err = r.Ask(Request{By: "me", At: s.now}, s.p, s.now)
	}
	return r, err
}

// live: whoever may encrypt with a key that another live member may lack was left behind by name,
// or excluded, or met a burn.
func (s *story) promoted(before, after Rollout, all Tally) error {
	if after.Phase != Promoting || before.Phase != Distributing {
		return nil
	}
	if left := after.History[len(after.History)-1].LeftBehind; len(left) > 0 {
		return nil
	}
	for _, m := range all.Members {
		if m.Live(s.p, s.now) && !before.isExcluded(&m, s.now) && m.Floor < after.Keys[0].Added {
			return fmt.Errorf("%s encrypts, and %s may lack it (g%d, added g%d)",
				after.Keys[0].Key.ID(), m.Name(), m.Floor, after.Keys[0].Added)
		}
	}
	return nil
}

func TestEveryRolloutKeepsItsInvariants(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := story{r: Rollout{Scope: "s"}, p: drawPolicy(t), now: epoch}
		step := func(n Rollout) {
			if err := holds(s.r, n); err != nil {
				t.Fatal(err)
			}
			s.r = n
		}
		for range rapid.IntRange(1, 25).Draw(t, "steps") {
			all := drawTally(t, s.r, s.now)
			if len(s.r.Keys) > 0 {
				if r, err := s.command(t, all); err == nil {
					step(r)
				}
			}
			calls := 0
			for {
				n, changed := s.r.Next(s.p, all, s.now, s.key)
				if !changed {
					if !reflect.DeepEqual(n, s.r.clone()) {
						t.Fatalf("Next says that nothing changed, and it did:\n%+v\n%+v", s.r, n)
					}
					break
				}
				if n.Generation > s.r.Generation+1 && n.History[len(n.History)-1].What != "rebased" {
					t.Fatalf("two rings in one call: g%d, g%d", s.r.Generation, n.Generation)
				}
				if err := s.promoted(s.r, n, all); err != nil {
					t.Fatal(err)
				}
				step(n)
				if calls++; calls > 100 {
					t.Fatalf("Next does not come to rest: %+v", s.r.History[len(s.r.History)-6:])
				}
			}
			s.due(t, all)
			s.now = s.now.Add(time.Duration(rapid.IntRange(0, 15).Draw(t, "pass")) * time.Second)
		}
	})
}

// due: nothing happens before the moment that Due names, and without an end of it nothing ever.
func (s *story) due(t *rapid.T, all Tally) {
	at := s.r.Due(s.p, all, s.now)
	if !at.IsZero() && !at.After(s.now) {
		t.Fatalf("due at %s, which is not after %s", at, s.now)
	}
	for _, d := range []time.Duration{
		time.Nanosecond, time.Second, 7 * time.Second, time.Minute, time.Hour, 100 * time.Hour,
	} {
		then := s.now.Add(d)
		if !at.IsZero() && !then.Before(at) {
			then = at.Add(-1)
		}
		if n, changed := s.r.Next(s.p, all, then, s.key); changed {
			t.Fatalf("%s: %q at +%s, before it is due (%s)",
				s.r.Phase, n.History[len(n.History)-1].What, then.Sub(s.now), at)
		}
	}
}

func TestRolloutRecordRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := story{r: Rollout{Scope: "s"}, p: drawPolicy(t), now: epoch}
		for range rapid.IntRange(1, 12).Draw(t, "steps") {
			all := drawTally(t, s.r, s.now)
			if s.r, _ = s.r.Next(s.p, all, s.now, s.key); s.r.Ended == 0 {
				s.r, _ = s.command(t, all)
			}
			s.now = s.now.Add(time.Duration(rapid.IntRange(0, 20_000_000_000).Draw(t, "pass")))
		}
		b, err := s.r.Encode()
		if err != nil {
			t.Fatal(err)
		}
		got, err := Decode("s", b)
		if err != nil {
			t.Fatal(err)
		}
		again, err := got.Encode()
		if err != nil || string(again) != string(b) {
			t.Fatalf("%v\n%s\n%s", err, b, again)
		}
		if !reflect.DeepEqual(tidy(got), tidy(s.r)) {
			t.Fatalf("got  %+v\nwant %+v", got, s.r)
		}
	})
}

// tidy makes empty and missing the same.
func tidy(r Rollout) Rollout {
	if len(r.Refusers) == 0 {
		r.Refusers = nil
	}
	if len(r.Excluded) == 0 {
		r.Excluded = nil
	}
	if len(r.Burnt) == 0 {
		r.Burnt = nil
	}
	return r
}
