package rotation

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-tls/lockstep/keysource"
)

func TestAClaimIsBelievedWithinBounds(t *testing.T) {
	for _, c := range []struct {
		claimed, stored uint64
		want            bool
	}{
		{3, 3, true}, {2, 3, true}, {3 + maxLead - 1, 3, true}, {3 + maxLead, 3, false}, {1<<64 - 1, 3, false},
		{MaxGeneration/2 + 1, MaxGeneration / 2, false}, {MaxGeneration / 2, MaxGeneration/2 - 1, true},
	} {
		if got := Believed(c.claimed, c.stored); got != c.want {
			t.Errorf("g%d where the store has g%d: %v", c.claimed, c.stored, got)
		}
	}
}

// The numbers go on after whatever a backup brings: what would use them up is refused.
func TestABackupCannotEndRotation(t *testing.T) {
	now := time.Now()
	stored := begun(t, now)
	for _, c := range []struct {
		generation uint64
		empty, ok  bool
	}{
		{MaxGeneration, true, false}, {MaxGeneration, false, false}, {maxLead * 2, false, false},
		{maxLead * 2, true, true}, {maxLead / 2, false, true},
	} {
		backup := advanced(begun(t, now), 1, now)
		backup.rebase(c.generation-1, now)
		var in []byte
		if !c.empty {
			in = record(t, stored)
		}
		b, _, err := Restore("default", "test", in, record(t, backup), now, keysource.NewTicketKey)
		if c.ok != (err == nil) || err != nil && !errors.Is(err, ErrRefused) {
			t.Errorf("%+v: %v", c, err)
		}
		if err != nil {
			continue
		}
		r, err := Decode("default", b)
		if err != nil {
			t.Fatal(err)
		}
		r, _ = r.Burn("test", "", keysource.NewTicketKey(), now)
		if _, err := Decode("default", record(t, r)); err != nil {
			t.Errorf("%+v: after a burn: %v", c, err)
		}
	}
}

// What stands in another log is not written down again: a record has few lines, whatever the
// backup's history.
func TestARestoreIntoNothingIsOneLine(t *testing.T) {
	now := time.Now()
	backup := begun(t, now)
	for i := range 150 {
		backup.log(Line{At: now, What: "excluded", Why: fmt.Sprint(i)})
	}
	b, _, err := Restore("default", "test", nil, record(t, backup), now, keysource.NewTicketKey)
	if err != nil {
		t.Fatal(err)
	}
	r, err := Decode("default", b)
	if err != nil || r.Lines != 1 || len(r.History) != 152 || r.History[151].What != "restored" {
		t.Errorf("%d lines of %d: %v", r.Lines, len(r.History), err)
	}
}

// The record of a rollout that 1000 identities refuse can be stored, and the rotation goes on: 100
// of them have a key taken back, the others are only waited for.
func TestARolloutThatManyIdentitiesRefuseCanBeStored(t *testing.T) {
	l := newLab(t)
	l.p.Period, l.p.MaxKeyAge, l.p.RefuseGrace = 20*time.Hour, 24*time.Hour, time.Hour
	step := func() {
		for {
			n, changed := l.r.Next(l.p, l.tally(), l.now, l.key)
			if l.r = n; !changed {
				return
			}
		}
	}
	for range maxBurnt + 10 {
		l.r.Burnt = append(l.r.Burnt, l.key().Fingerprint())
	}
	l.r.Excluded = map[string]time.Time{}
	name := func(kind string, i int) string { return fmt.Sprintf("%s%05d%s", kind, i, strings.Repeat(`"`, 240)) }
	for i := range maxExcluded {
		l.r.Excluded[name("away", i)] = l.now.Add(20 * time.Hour)
	}
	for i := range 1000 {
		node := name("edge", i)
		l.members[node] = &Member{Node: node, Nr: 1, Floor: l.r.Generation, Answered: true, Connected: true,
			Since: l.now, Grouped: true, Group: fmt.Sprintf("%016x", i), Words: strings.Repeat("\x01", 4000)}
	}
	var err error
	if l.r, _, err = l.r.Ask(Request{By: "me", At: l.now}, l.p, l.now); err != nil {
		t.Fatal(err)
	}
	tries := 0
	for i := range 1000 {
		step()
		if l.r.Phase != Distributing {
			t.Fatalf("after %d tries: %s", i, l.r.Phase)
		}
		for _, m := range l.members {
			m.Refused = 0
		}
		l.members[name("edge", i)].Refused = l.r.Generation
		step()
		b, err := l.r.Encode()
		if err != nil {
			t.Fatalf("after %d refusals: %v", i, err)
		}
		if len(b) > maxRecord {
			t.Fatalf("%d bytes", len(b))
		}
		if l.r.Phase == Distributing {
			break
		}
		tries++
		if l.now = l.r.RetryAt; l.r.RetryAt.IsZero() {
			t.Fatal("it is not tried again")
		}
	}
	if tries != maxRefusers {
		t.Errorf("it was taken back %d times", tries)
	}
	for _, m := range l.members {
		m.Refused, m.Floor = 0, l.r.Generation
	}
	step()
	if l.r.Phase != Promoting {
		t.Errorf("nobody refuses any more, and it is %s", l.r.Phase)
	}
}
