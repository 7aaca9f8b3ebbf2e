package problems

import (
	"io/fs"
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

// Most sources date a problem anew with each stream or each start of lockstepd.
func TestAProblemThatIsDatedAnewStandsSinceItWasSeenFirst(t *testing.T) {
	file := filepath.Join(t.TempDir(), "problems.json")
	start := time.Unix(10_000, 0).UTC()
	see := func(m *Memory, code string, at, dated time.Duration) time.Duration {
		p := New(code, "shop.example", "")
		p.Since = start.Add(dated)
		all := []api.Problem{p}
		m.Date(all, start.Add(at))
		return all[0].Since.Sub(start)
	}
	for _, code := range []string{
		StandIn, NodeStuck, NodeWithoutRing, CertificateRefused, RefusedFirst, CertificatesStale,
		ReplicaUnreachable, MixedVersions,
	} {
		before, after := new(Memory), new(Memory)
		for _, step := range []struct{ at, dated, want time.Duration }{
			{0, 0, 0},
			{50 * time.Second, 45 * time.Second, 0}, // after a reconnect
			{70 * time.Second, -time.Minute, -time.Minute},
			{3 * time.Minute, 2 * time.Minute, 2 * time.Minute}, // after a gap
		} {
			if got := see(before, code, step.at, step.dated); got != step.want {
				t.Errorf("%s at %s stands since %s, want %s", code, step.at, got, step.want)
			}
		}
		if err := before.Keep(file, start.Add(3*time.Minute)); err != nil {
			t.Fatal(err)
		}
		if err := after.Load(file, start.Add(4*time.Minute)); err != nil {
			t.Fatal(err)
		}
		if got := see(after, code, 5*time.Minute, 5*time.Minute); got != 2*time.Minute {
			t.Errorf("%s: after a restart it stands since %s", code, got)
		}
	}
	for _, code := range incidents {
		m := new(Memory)
		see(m, code, 0, 0)
		if got := see(m, code, time.Minute, 30*time.Second); got != 30*time.Second {
			t.Errorf("%s: another one stands since %s", code, got)
		}
	}
}

func TestWhatIsOverIsNotCarriedThroughRestarts(t *testing.T) {
	file := filepath.Join(t.TempDir(), "problems.json")
	start := time.Unix(10_000, 0).UTC()
	before := new(Memory)
	before.Date([]api.Problem{New(StoreDown, "a", "")}, start)
	if err := before.Keep(file, start); err != nil {
		t.Fatal(err)
	}
	// None of these starts sees it.
	for at := time.Minute; at <= 11*time.Minute; at += 5 * time.Minute {
		m := new(Memory)
		if err := m.Load(file, start.Add(at)); err != nil {
			t.Fatal(err)
		}
		for _, later := range []time.Duration{0, 4 * time.Minute} {
			m.Date(nil, start.Add(at+later))
			if err := m.Keep(file, start.Add(at+later)); err != nil {
				t.Fatal(err)
			}
		}
	}
	all := []api.Problem{New(StoreDown, "a", "")}
	m := new(Memory)
	if err := m.Load(file, start.Add(16*time.Minute)); err != nil {
		t.Fatal(err)
	}
	if m.Date(all, start.Add(17*time.Minute)); !all[0].Since.Equal(start.Add(17 * time.Minute)) {
		t.Errorf("it was over for sixteen minutes, and stands since %s", all[0].Since.Sub(start))
	}
}

// A start shows for a moment that there is no ring.
func TestWhatTheLastLookDidNotShowBeginsAnewAfterARestart(t *testing.T) {
	file := filepath.Join(t.TempDir(), "problems.json")
	start := time.Unix(10_000, 0).UTC()
	before, after := new(Memory), new(Memory)
	before.Date([]api.Problem{New(NoRing, "default", ""), New(ClockOff, "", "")}, start)
	before.Date([]api.Problem{New(ClockOff, "", "")}, start.Add(time.Second))
	if err := before.Keep(file, start.Add(10*time.Second)); err != nil {
		t.Fatal(err)
	}
	if err := after.Load(file, start.Add(20*time.Second)); err != nil {
		t.Fatal(err)
	}
	all := []api.Problem{New(NoRing, "default", ""), New(ClockOff, "", "")}
	after.Date(all, start.Add(21*time.Second))
	if got := all[0].Since.Sub(start); got != 21*time.Second {
		t.Errorf("the ring was there until the stop; no-ring stands since %s", got)
	}
	if got := all[1].Since.Sub(start); got != 0 {
		t.Errorf("what stood until the stop stands since %s", got)
	}
}

func TestADiskThatHangsHoldsUpNobodyWhoAsks(t *testing.T) {
	hangs, free, kept := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	m := &Memory{write: func(string, []byte, fs.FileMode) error {
		close(hangs)
		<-free
		return nil
	}}
	now := time.Unix(10_000, 0)
	m.Date([]api.Problem{New(StoreDown, "", "")}, now)
	go func() { kept <- m.Keep("problems.json", now) }()
	<-hangs
	dated := make(chan struct{})
	go func() {
		defer close(dated)
		m.Date([]api.Problem{New(StoreDown, "", "")}, now)
		m.Date(nil, now)
	}()
	select {
	case <-dated:
	case <-time.After(10 * time.Second):
		t.Error("whoever asks since when a problem stands waits for the disk")
	}
	close(free)
	if err := <-kept; err != nil {
		t.Error(err)
	}
}
