package rotation

import (
	"errors"
	"fmt"
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
		backup := advanced(t, begun(t, now), 1, now)
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
