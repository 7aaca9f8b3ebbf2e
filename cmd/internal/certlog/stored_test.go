package certlog

import (
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-tls/lockstep/cmd/internal/recorder"
)

// Of a stored certificate the same is told as of one in the directory, once, by one replica, and
// not again after a restart.
func TestTheEndOfAStoredCertificateIsTold(t *testing.T) {
	now := time.Date(2026, 11, 30, 0, 0, 0, 0, time.UTC)
	const day = 24 * time.Hour
	var told []string
	ends := []Ending{
		{"far.example", now.Add(-day), now.Add(300 * day)}, {"near.example", now.Add(-60 * day), now.Add(20 * day)},
	}
	bad, mine := map[string]string{"torn.example": "the record is damaged"}, true
	c := StoredConfig{
		File: filepath.Join(t.TempDir(), "stored.mark"), Log: slog.New(slog.DiscardHandler),
		Ends: func() ([]Ending, bool) { return ends, true }, Bad: func() map[string]string { return bad },
		Mine:   func() bool { return mine },
		Record: func(e recorder.Entry) { told = append(told, string(e.Kind)+" "+e.Name+" "+e.Text) },
	}
	s := NewStored(c)
	tells := func(at time.Time, want ...string) {
		t.Helper()
		told = nil
		s.look(at)
		s.look(at)
		if len(told) != len(want) {
			t.Fatalf("%d were told, want %q: %q", len(told), want, told)
		}
		for i, w := range want {
			if !strings.Contains(told[i], w) {
				t.Errorf("told was %q, want %q", told[i], w)
			}
		}
	}
	tells(now, "cert-expiring near.example the certificate of near.example in the store expires at 2026-12-20",
		"cert-refused torn.example the certificate of torn.example in the store cannot be used: the record is damaged")
	s = NewStored(c)
	tells(now.Add(time.Hour))
	tells(now.Add(19*day+12*time.Hour), "expires at 2026-12-20")
	bad = map[string]string{"near.example": "expired at 2026-12-20", "torn.example": "the record is damaged"}
	tells(now.Add(21*day), "cert-expiring near.example the certificate of near.example in the store expired at")
	bad = map[string]string{}
	tells(now.Add(21*day), "cert-back torn.example")
	// A renewed one begins anew, and a replica that does not tell remembers all the same.
	mine = false
	ends[1] = Ending{"near.example", now.Add(21 * day), now.Add(22 * day)}
	tells(now.Add(21*day + 20*time.Hour))
	mine = true
	tells(now.Add(21*day + 20*time.Hour))
	tells(now.Add(23*day), "expired at 2026-12-22")
}
