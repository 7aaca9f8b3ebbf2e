package rotation

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/lockstep-tls/lockstep/keysource"
)

// reload has the scope go on with another ticket_lifetime.
func (l *lab) reload(d time.Duration) {
	p := l.p
	p.TicketLifetime = d
	l.p = p.After(l.p)
}

func TestAShorterLifetimeShortensNoTicketThatIsOut(t *testing.T) {
	l := newLab(t)
	l.p.Period, l.p.MaxKeyAge = 20*time.Hour, 24*time.Hour
	l.next()
	l.reload(10 * time.Minute)
	l.next()
	l.rotate()
	l.want(Steady, "2 1")
	l.after(drainsFor(2*time.Hour) - 1)
	l.after(1, "retired") // the first key made tickets for 2h
	l.rotate()
	l.after(drainsFor(10*time.Minute) - 1)
	l.after(1, "retired") // the second one did not
	l.want(Steady, "3")
}

func TestALongerLifetimeKeepsTheKeysThatMayMakeSuchTickets(t *testing.T) {
	l := newLab(t)
	l.p.Period, l.p.MaxKeyAge = 20*time.Hour, 24*time.Hour
	l.rotate()
	l.reload(5 * time.Hour)
	l.after(drainsFor(2*time.Hour) - 1)
	l.after(1, "retired") // nobody encrypted with the first key any more
	l.rotate()
	l.want(Steady, "3 2")
	l.after(drainsFor(5*time.Hour) - 1)
	l.after(1, "retired")
	if v := l.r.View(l.p, l.tally(), l.now); !v.Keys[0].RetiresAt.IsZero() || len(l.r.Lifetimes) != 1 {
		t.Errorf("%+v, %v", v.Keys, l.r.Lifetimes)
	}
}

// A node that comes back with an old ring makes tickets with the old key again, of the lifetime
// that is in force by then.
func TestAReturningNodeLengthensTheDrain(t *testing.T) {
	l := newLab(t)
	l.p.Period, l.p.MaxKeyAge = 20*time.Hour, 24*time.Hour
	l.rotate()
	l.reload(5 * time.Hour)
	l.members["old"] = &Member{Node: "old", Nr: 1, Floor: 1, Answered: true, Connected: true, Since: l.now}
	l.next()
	l.accept("old")
	l.after(time.Second)
	l.after(drainsFor(5*time.Hour) - 1)
	l.after(1, "retired")
}

func TestLifetimesOutliveARecordAndABackup(t *testing.T) {
	l := newLab(t)
	l.p.TicketLifetime = 4 * time.Hour
	l.next()
	first := l.r.Keys[0].Key.Fingerprint()
	if b, err := l.r.Encode(); err != nil || strings.Contains(string(b), "lifetimes") {
		t.Fatalf("a field that earlier versions refuse stands in every record: %v %s", err, b)
	}
	l.reload(time.Minute)
	l.next()
	backup, err := l.r.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if l.r, err = Decode("s", backup); err != nil || l.r.Lifetimes[first] != 4*time.Hour {
		t.Fatalf("%v, %v", l.r.Lifetimes, err)
	}
	other := newLab(t)
	other.made = 100
	other.r = Rollout{Scope: "s"}
	other.p.TicketLifetime = time.Minute
	other.next("done")
	r, _, err := other.r.Restore(backup, "me", other.now, other.key)
	if err != nil || r.Lifetimes[first] != 4*time.Hour {
		t.Errorf("%v, %v", r.Lifetimes, err)
	}
	hostile := edited(t, l.r, "lifetimes", map[string]any{first: int64(1 << 60), "other": -1})
	if r, err := Decode("s", hostile); err != nil || len(r.Lifetimes) != 1 || r.Lifetimes[first] != MaxTicketLifetime {
		t.Errorf("%v, %v", r.Lifetimes, err)
	}
}

// P1, while the policy changes again and again under a fleet: whatever ticket any member has issued
// resumes until it is as old as ticket_lifetime was then.
func TestNoTicketIsLostWhilePoliciesChange(t *testing.T) {
	type ticket struct {
		key   string
		until time.Time
	}
	rapid.Check(t, func(t *rapid.T) {
		p := func() Policy {
			p := drawPolicy(t)
			p.Quorum, p.Laggard, p.MaxKeyAge = 1, 0, 24*time.Hour
			return p
		}
		s := story{r: Rollout{Scope: "s"}, p: p(), now: epoch}
		// first is the key that encrypts in each generation.
		first := map[uint64]keysource.TicketKey{}
		members := []Member{}
		var out []ticket
		check := func() error {
			first[s.r.Generation] = s.r.Keys[0].Key
			for _, k := range out {
				if s.now.Before(k.until) && !slices.ContainsFunc(s.r.Keys,
					func(have Key) bool { return have.Key.Fingerprint() == k.key }) {
					return fmt.Errorf("at %s (g%d): the key of a ticket that is good for %s more has left the ring",
						s.now.Sub(epoch), s.r.Generation, k.until.Sub(s.now))
				}
			}
			return nil
		}
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			if rapid.IntRange(0, 4).Draw(t, "reload") == 0 {
				s.p = p().After(s.p)
			}
			for {
				n, changed := s.r.Next(s.p, Tally{Members: members}, s.now, s.key)
				if !changed {
					break
				}
				s.r = n
				if err := check(); err != nil {
					t.Fatal(err)
				}
			}
			if len(members) == 0 {
				for i := range 3 {
					members = append(members, Member{Node: fmt.Sprint(i), Nr: 1, Floor: s.r.Generation,
						Answered: true, Connected: true, Stream: uint64(i + 1), Since: s.now})
				}
			}
			for i := range members {
				if rapid.IntRange(0, 2).Draw(t, "accepts") > 0 {
					members[i].Floor = s.r.Generation
				}
				k := first[members[i].Floor]
				out = append(out, ticket{k.Fingerprint(), s.now.Add(s.p.TicketLifetime)})
			}
			s.now = s.now.Add(time.Duration(rapid.IntRange(0, 15).Draw(t, "pass")) * time.Second)
		}
	})
}
