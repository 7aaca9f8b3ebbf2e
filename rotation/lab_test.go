package rotation

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-tls/lockstep/keysource"
)

var epoch = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// lab is one rollout with its nodes, driven by hand.
type lab struct {
	t       *testing.T
	r       Rollout
	p       Policy
	now     time.Time
	members map[string]*Member
	highest uint64
	made    int
}

// newLab begins a scope with the nodes a, b and c, which hold its first ring.
func newLab(t *testing.T) *lab {
	l := &lab{t: t, r: Rollout{Scope: "s"}, p: DefaultPolicy(), now: epoch, members: map[string]*Member{}}
	l.next("done")
	for _, n := range []string{"a", "b", "c"} {
		l.members[n] = &Member{Node: n, Nr: 1, Floor: 1, Answered: true, Connected: true, Since: epoch}
	}
	return l
}

func (l *lab) key() (k keysource.TicketKey) {
	l.made++
	return testKey(l.made)
}

func testKey(n int) (k keysource.TicketKey) {
	for i := range k {
		k[i] = byte((i + 1) * (i + 7*n + 3) * 31 >> 1)
	}
	copy(k[:], fmt.Sprintf("%012d", n))
	return k
}

func (l *lab) tally() Tally {
	t := Tally{Highest: l.highest, AcceptedSince: l.now.Add(-finishWithin)}
	for _, m := range l.members {
		t.Members = append(t.Members, *m)
	}
	slices.SortFunc(t.Members, func(a, b Member) int { return strings.Compare(a.Name(), b.Name()) })
	return t
}

// next calls Next until nothing changes, checks what must hold after each call, and compares the
// lines that were written.
func (l *lab) next(want ...string) {
	l.t.Helper()
	from := l.r.Lines
	for {
		n, changed := l.r.Next(l.p, l.tally(), l.now, l.key)
		if !changed {
			break
		}
		if err := holds(l.r, n); err != nil {
			l.t.Fatal(err)
		}
		l.r = n
	}
	l.wrote(from, want...)
}

func (l *lab) wrote(from uint64, want ...string) {
	l.t.Helper()
	var got []string
	for _, line := range l.r.History[len(l.r.History)-int(l.r.Lines-from):] {
		got = append(got, string(line.What))
	}
	if len(want) > 0 && want[0] == skip[0] {
		want = want[1:]
		got = slices.DeleteFunc(got, func(what string) bool { return what == string(LineRetired) })
	}
	if !slices.Equal(got, want) {
		l.t.Fatalf("after %s: wrote %q, want %q (%s g%d)", l.now.Sub(epoch), got, want, l.r.Phase, l.r.Generation)
	}
}

func (l *lab) after(d time.Duration, want ...string) {
	l.t.Helper()
	l.now = l.now.Add(d)
	l.next(want...)
}

// accept lets nodes accept the present ring.
func (l *lab) accept(nodes ...string) {
	for _, n := range nodes {
		m := l.members[n]
		m.Floor, m.Answered, m.Refused, m.Words = l.r.Generation, true, 0, ""
	}
}

func (l *lab) refuse(n, words string) {
	l.members[n].Refused, l.members[n].Words = l.r.Generation, words
}

func (l *lab) lose(n string) { l.members[n].Connected, l.members[n].Since = false, l.now }

// do takes the outcome of a command that must succeed.
func (l *lab) do(r Rollout, err error) {
	l.t.Helper()
	if err != nil {
		l.t.Fatal(err)
	}
	if err := holds(l.r, r); err != nil {
		l.t.Fatal(err)
	}
	l.r = r
}

func (l *lab) ask() {
	l.t.Helper()
	r, _, err := l.r.Ask(Request{By: "me", Why: "because", At: l.now}, l.p, l.now)
	l.do(r, err)
}

// rotate goes through a whole rotation.
func (l *lab) rotate() {
	l.t.Helper()
	l.ask()
	l.next("distributing")
	l.accept("a", "b", "c")
	l.next("promoting")
	l.accept("a", "b", "c")
	l.next("done")
}

// fill fills the ring. An earlier version takes every request for which the ring has a place.
func (l *lab) fill() {
	l.t.Helper()
	for len(l.r.Keys) < keysource.MaxRing {
		l.r = l.r.clone()
		l.r.Wanted = &Request{By: "me", Why: "because", At: l.now}
		l.next("distributing")
		l.accept("a", "b", "c")
		l.next("promoting")
		l.accept("a", "b", "c")
		l.next("done")
	}
}

// ring shows the keys in order, by their numbers.
func (l *lab) ring() string {
	var out []string
	for _, k := range l.r.Keys {
		out = append(out, strings.TrimLeft(string(k.Key[:12]), "0"))
	}
	return strings.Join(out, " ")
}

func (l *lab) want(phase Phase, ring string) {
	l.t.Helper()
	if l.r.Phase != phase || l.ring() != ring {
		l.t.Fatalf("after %s: %s [%s], want %s [%s]", l.now.Sub(epoch), l.r.Phase, l.ring(), phase, ring)
	}
}

func (l *lab) last() Line { return l.r.History[len(l.r.History)-1] }

// holds is what every change of a rollout must keep.
func holds(before, after Rollout) error {
	a, b := before.Ring(), after.Ring()
	same := slices.Equal(a.Keys, b.Keys)
	switch {
	case after.Generation < before.Generation:
		return fmt.Errorf("g%d went back to g%d", before.Generation, after.Generation)
	case !same && after.Generation == before.Generation:
		return fmt.Errorf("the ring changed and its generation did not: g%d", after.Generation)
	case same && after.Generation != before.Generation && after.History[len(after.History)-1].What != "rebased":
		return fmt.Errorf("g%d became g%d with the same ring", before.Generation, after.Generation)
	}
	if err := b.Check(); err != nil {
		return err
	}
	if why := after.inconsistent(); why != "" {
		return fmt.Errorf("the rollout %s", why)
	}
	stored, err := after.Encode()
	if err != nil {
		return err
	}
	if _, err := Decode(after.Scope, stored); err != nil {
		return err
	}
	return nil
}
