package rotation

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-tls/lockstep/keysource"
)

// A line names some of those who were left behind, and counts all: a thousand laggards do not fill
// the record.
func TestALineNamesTwentyLaggardsAndCountsAll(t *testing.T) {
	for _, late := range []int{0, 1, maxNamed, maxNamed + 1, 1000} {
		l := newLab(t)
		l.p.Laggard, l.p.Quorum = 30*time.Second, 0
		for i := range late {
			n := fmt.Sprintf("late-%04d", i)
			l.members[n] = &Member{Node: n, Nr: 1, Floor: 1, Answered: true, Connected: true, Since: epoch}
		}
		l.now = l.now.Add(l.p.Period)
		l.next("distributing")
		l.accept("a", "b", "c")
		if late == 0 {
			l.next("promoting")
		} else {
			l.after(30*time.Second, "promoting")
		}
		line := l.last()
		if line.Behind() != late || line.Nodes != 3 || len(line.LeftBehind) != min(late, maxNamed+1) {
			t.Errorf("%d: %d left behind, %d accepted: %q", late, line.Behind(), line.Nodes, line.LeftBehind)
		}
	}
	// of an older version
	odd := Line{LeftBehind: strings.Split(strings.Repeat("n ", maxNamed)+"n", " ")}
	if odd.Behind() != maxNamed+1 {
		t.Errorf("%d of %q", odd.Behind(), odd.LeftBehind)
	}
}

// A rollout can be stored whatever has grown in it. What is left out is the oldest of its history,
// and of what was burnt.
func TestARecordFitsTheStoreWhateverGrows(t *testing.T) {
	long := func(what string, i int) string {
		return fmt.Sprintf("%s-%06d-", what, i) + strings.Repeat(`"`, maxNode-len(what)-8)
	}
	l := newLab(t)
	for i := range 2 * maxRefusers {
		n := long("late", i)
		l.members[n] = &Member{Node: n, Nr: 1, Floor: 1, Answered: true, Connected: true, Since: epoch}
	}
	if _, err := l.r.Exclude(strings.Repeat("n", maxNode+1), "me", "", l.now.Add(time.Hour), l.now); err == nil {
		t.Error("a node is excluded that cannot be")
	}
	for i := range maxExcluded {
		r, err := l.r.Exclude(long("excluded", i), strings.Repeat("b", 1<<16),
			strings.Repeat("ä<", 1<<16), l.now.Add(1e6*time.Hour), l.now)
		if err != nil {
			t.Fatal(err)
		}
		l.r = r
	}
	if _, err := l.r.Exclude("one-more", "me", "", l.now.Add(time.Hour), l.now); err == nil {
		t.Errorf("%d nodes are excluded", len(l.r.Excluded)+1)
	}
	l.do(l.r.Exclude(long("excluded", 0), "me", "longer", l.now.Add(2e6*time.Hour), l.now))
	for i := range 2 * maxBurnt {
		l.r.Burnt = append(l.r.Burnt, testKey(1e6+i).Fingerprint())
	}
	newest := l.r.Burnt[len(l.r.Burnt)-1]

	// Nodes refuse, one after the other, and the rotation is taken back each time.
	l.now = l.now.Add(l.p.Period)
	l.p.RefuseGrace, l.p.MaxKeyAge = 1e6*time.Hour, 1e6*time.Hour
	for i := range 2 * maxRefusers {
		l.r, _ = l.r.Next(l.p, l.tally(), l.now, l.key)
		if l.r.Phase == Distributing {
			l.refuse(long("late", i), strings.Repeat(`"`, 1<<10))
		}
		l.r, _ = l.r.Next(l.p, l.tally(), l.now, l.key)
		l.now = l.now.Add(5 * time.Minute)
	}
	if len(l.r.Refusers) != maxRefusers {
		t.Errorf("%d refusals are kept", len(l.r.Refusers))
	}
	l.p.Laggard, l.p.Quorum = 30*time.Second, 0
	for range maxHistory {
		l.now = l.now.Add(l.p.Period)
		l.r, _ = l.r.Next(l.p, l.tally(), l.now, l.key)
		l.now = l.now.Add(30 * time.Second)
		l.r, _ = l.r.Next(l.p, l.tally(), l.now, l.key)
	}
	b, err := l.r.Encode()
	if err != nil || len(b) > maxRecord {
		t.Fatalf("%d bytes: %v", len(b), err)
	}
	r, err := Decode("s", b)
	if err != nil {
		t.Fatal(err)
	}
	if len(r.History) == 0 || r.Lines != l.r.Lines || r.History[len(r.History)-1].At != l.last().At {
		t.Errorf("%d lines of %d, the last one is missing", len(r.History), r.Lines)
	}
	if len(r.History) == maxHistory {
		t.Error("nothing gave way: the test shows nothing")
	}
	if len(r.Burnt) != maxBurnt || r.Burnt[maxBurnt-1] != newest {
		t.Errorf("%d burnt keys, not the newest", len(r.Burnt))
	}
	// The ring can still be burnt, and nothing of it comes back.
	gone := r.Keys[0].Key
	r, _ = r.Burn("me", "", keysource.NewTicketKey(), l.now)
	if r, err = Decode("s", record(t, r)); err != nil || !r.isBurnt(gone) {
		t.Errorf("after a burn: %v", err)
	}
}

// That a store has lost rings stays known for longer than its history reaches: a key that may have
// been burnt does not come back.
func TestALossIsKnownForLongerThanTheHistory(t *testing.T) {
	now := time.Now()
	old := advanced(begun(t, now), 1, now)
	r := advanced(begun(t, now), 1, now)
	r, _ = r.Next(DefaultPolicy(), Tally{Highest: old.Generation + 10}, now, keysource.NewTicketKey)
	for _, lines := range []int{0, 1, maxHistory + 1} {
		for i := range lines {
			r.log(Line{At: now, What: lineExcluded, Why: fmt.Sprint(i)})
		}
		if _, out := restored(t, record(t, r), record(t, old), now); len(out.Back) > 0 || len(out.Refused) == 0 {
			t.Errorf("after %d lines: %+v", lines, out)
		}
	}
}

func TestBrief(t *testing.T) {
	for in, want := range map[string]string{
		"": "", "abcdef": "abcdef", "abcdefg": "abc…", "abääää": "ab…", "äääää": "ä…",
	} {
		if got := brief(in, 6); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}
