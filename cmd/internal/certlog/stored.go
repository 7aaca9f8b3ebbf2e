package certlog

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"slices"
	"time"

	"github.com/lockstep-tls/lockstep/cmd/internal/recorder"
	"github.com/lockstep-tls/lockstep/events"
	"github.com/lockstep-tls/lockstep/internal/atomicfile"
)

// Ending is a stored certificate with its end.
type Ending struct {
	Name                string
	NotBefore, NotAfter time.Time
}

// StoredConfig of a [Stored]. Its functions read nothing of the store.
type StoredConfig struct {
	// File remembers what was told.
	File string
	// Ends are the stored certificates that end first, and those that have ended. known is false
	// until all were read once.
	Ends func() (all []Ending, known bool)
	// Bad has the problem of each stored certificate that cannot be served, as far as is known.
	Bad func() map[string]string
	// Mine reports whether this replica tells it. All replicas see the same store, and one tells.
	Mine   func() bool
	Record func(recorder.Entry)
	Log    *slog.Logger
}

// Stored tells which stored certificates are near their end, have expired or cannot be used. It
// tells the same of them as [Log] does of those in the directory.
type Stored struct {
	cfg  StoredConfig
	told storedTold
}

// storedTold is what was told, by name.
type storedTold struct {
	Ends map[string]toldEnd `json:"ends"`
	Bad  map[string]string  `json:"bad"`
}

// toldEnd is an end, and how near it was told.
type toldEnd struct {
	NotAfter time.Time `json:"not_after"`
	At       stage     `json:"at"`
}

// maxBad is how many bad ones the store's reader remembers. Beyond it one that is missing among
// them may be bad still.
const maxBad = 100

// storedEvery is how often stored certificates are looked at.
const storedEvery = 5 * time.Second

// NewStored reads the file. One that cannot be read counts as none.
func NewStored(c StoredConfig) *Stored {
	s := &Stored{cfg: c}
	b, err := os.ReadFile(c.File)
	if err == nil {
		err = json.Unmarshal(b, &s.told)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		c.Log.Warn("what was told of stored certificates is not known: all of it is told again", "err", err)
		s.told = storedTold{}
	}
	return s
}

// Run looks until ctx ends.
func (s *Stored) Run(ctx context.Context) error {
	tick := time.NewTicker(storedEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			s.look(time.Now())
		}
	}
}

// look tells what has changed since the look before. A replica that does not tell remembers all the
// same, so that it tells nothing again once it does.
func (s *Stored) look(now time.Time) {
	ends, known := s.cfg.Ends()
	if !known {
		return
	}
	next := storedTold{Ends: map[string]toldEnd{}, Bad: map[string]string{}}
	var out []recorder.Entry
	for _, e := range ends {
		v := toldEnd{NotAfter: e.NotAfter.UTC(), At: version{NotBefore: e.NotBefore, NotAfter: e.NotAfter}.stageOf(now)}
		if v.At == far {
			continue
		}
		next.Ends[e.Name] = v
		if before, ok := s.told.Ends[e.Name]; ok && before.NotAfter.Equal(v.NotAfter) && before.At >= v.At {
			continue
		}
		verb := "expires"
		if v.At == over {
			verb = "expired"
		}
		out = append(out, storedEntry(events.CertExpiring, slog.LevelWarn, e.Name, fmt.Sprintf(
			"the certificate of %s in the store %s at %s: put a renewed one (lockstep cert put)", e.Name, verb,
			v.NotAfter.UTC().Format(time.RFC3339))))
	}
	bad := s.cfg.Bad()
	for _, name := range slices.Sorted(maps.Keys(bad)) {
		if next.Ends[name].At == over { // that is its problem
			continue
		}
		next.Bad[name] = bad[name]
		if s.told.Bad[name] != bad[name] {
			out = append(out, storedEntry(events.CertRefused, slog.LevelWarn, name, fmt.Sprintf(
				"the certificate of %s in the store cannot be used: %s; put it again (lockstep cert put)",
				name, bad[name])))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(s.told.Bad)) {
		if bad[name] == "" && len(bad) < maxBad {
			out = append(out, storedEntry(events.CertBack, slog.LevelInfo, name, fmt.Sprintf(
				"the certificate of %s in the store is no longer known to be bad", name)))
		}
	}
	if maps.Equal(next.Bad, s.told.Bad) && maps.Equal(next.Ends, s.told.Ends) {
		return
	}
	s.told = next
	s.keep()
	if !s.cfg.Mine() {
		return
	}
	if more := len(out) - severally; more > 0 {
		var names []string
		for _, e := range out[severally:] {
			names = append(names, e.Name)
		}
		last := storedEntry(out[severally].Kind, slog.LevelWarn, "", fmt.Sprintf(
			"%d more stored certificates are near their end or cannot be used (lockstep cert list)", more))
		last.Hosts = events.HostsOf(names...)
		out = append(out[:severally], last)
	}
	for _, e := range out {
		s.cfg.Record(e)
	}
}

func storedEntry(kind events.Kind, level slog.Level, name, text string) recorder.Entry {
	return recorder.Entry{Level: level, Event: events.Event{Kind: kind, Name: name, Text: text}}
}

func (s *Stored) keep() {
	b, err := json.Marshal(s.told)
	if err == nil {
		err = atomicfile.Write(s.cfg.File, b, 0o600)
	}
	if err != nil {
		s.cfg.Log.Warn("what was told of stored certificates cannot be kept: it is told again after a restart",
			"err", err)
	}
}
