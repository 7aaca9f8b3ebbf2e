package problems

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/lockstep-tls/lockstep/cmd/internal/api"
)

func TestAProblemStandsSinceBeforeARestart(t *testing.T) {
	file := filepath.Join(t.TempDir(), "problems.json")
	start := time.Unix(10_000, 0).UTC()
	see := func(m *Memory, at time.Duration) time.Duration {
		all := []api.Problem{New(StoreDown, "a", "")}
		m.Date(all, start.Add(at))
		return all[0].Since.Sub(start)
	}
	for what, c := range map[string]struct{ stopped, again, since time.Duration }{
		"back at once":                    {time.Minute, 2 * time.Minute, 0},
		"seen again late":                 {time.Minute, 10 * time.Minute, 0},
		"seen again too late":             {time.Minute, 13 * time.Minute, 13 * time.Minute},
		"back after it was away for long": {61 * time.Minute, 62 * time.Minute, 62 * time.Minute},
	} {
		before, after := new(Memory), new(Memory)
		see(before, 0)
		if err := before.Keep(file, start); err != nil {
			t.Fatal(err)
		}
		if err := after.Load(file, start.Add(c.stopped)); err != nil {
			t.Fatal(err)
		}
		if got := see(after, c.again); got != c.since {
			t.Errorf("%s: it stands since %s, want %s", what, got, c.since)
		}
	}
	// What was seen again ends as any other.
	m := new(Memory)
	if err := m.Load(file, start); err != nil {
		t.Fatal(err)
	}
	see(m, time.Minute)
	if got := see(m, 3*time.Minute); got != 3*time.Minute {
		t.Errorf("it ended, began anew and stands since %s", got)
	}
}

// What had ended before a restart, or was told as over after it, is not waited for. It begins anew.
func TestAProblemThatEndedAroundARestartBeginsAnew(t *testing.T) {
	start := time.Unix(10_000, 0).UTC()
	for what, endsBefore := range map[string]bool{"before": true, "after": false} {
		file := filepath.Join(t.TempDir(), "problems.json")
		all := func() []api.Problem { return []api.Problem{New(StoreDown, "a", "")} }
		var before, after Memory
		before.Date(all(), start)
		if endsBefore {
			before.Date(nil, start.Add(time.Second))
		}
		if err := before.Keep(file, start.Add(time.Second)); err != nil {
			t.Fatal(err)
		}
		if err := after.Load(file, start.Add(10*time.Second)); err != nil {
			t.Fatal(err)
		}
		if !endsBefore {
			after.Over(StoreDown, "a")
		}
		again := all()
		if after.Date(again, start.Add(2*time.Minute)); again[0].Since != start.Add(2*time.Minute) {
			t.Errorf("it ended %s the restart, and stands since %s", what, again[0].Since.Sub(start))
		}
	}
}

func TestWithoutAProblemNothingIsKeptAndADamagedFileIsSaid(t *testing.T) {
	file := filepath.Join(t.TempDir(), "problems.json")
	now := time.Unix(10_000, 0)
	var m Memory
	if err := m.Load(file, now); err != nil {
		t.Error(err)
	}
	if err := m.Keep(file, now); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(file); err == nil {
		t.Error("a file was written, and there was no problem")
	}
	m.Date([]api.Problem{New(StoreDown, "", "")}, now)
	if err := m.Keep(filepath.Join(file, "x"), now); err == nil {
		t.Error("a file that cannot be written is not said")
	}
	if err := os.WriteFile(file, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := m.Load(file, now); err == nil {
		t.Error("a damaged file is not said")
	}
	if err := m.Keep(file, now); err != nil {
		t.Error(err)
	}
	if err := new(Memory).Load(file, now); err != nil {
		t.Errorf("the damaged file was not replaced: %v", err)
	}
	m.Date(nil, now.Add(2*time.Minute))
	if err := m.Keep(file, now.Add(2*time.Minute)); err != nil {
		t.Error(err)
	}
	var next Memory
	if err := next.Load(file, now.Add(2*time.Minute)); err != nil || len(next.since) != 0 {
		t.Errorf("what has ended is kept: %v %v", next.since, err)
	}
}
