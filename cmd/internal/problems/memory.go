package problems

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/lockstep-tls/lockstep/cmd/internal/api"
	"github.com/lockstep-tls/lockstep/internal/atomicfile"
)

const (
	// maxRemembered bounds the problems of which a [Memory] knows since when they stand.
	maxRemembered = 1000
	// forgetAfter is how long a problem may be gone and come back as the same one.
	forgetAfter = time.Minute
	// awayFor is how long lockstepd may be stopped until problems from before begin anew.
	awayFor = time.Hour
	// againWithin is how long it may take after a start until a problem from before is seen again.
	againWithin = 10 * time.Minute
	// writeEvery is how often the file is written although it has the same problems.
	writeEvery = 5 * time.Minute
)

type problemKey struct{ code, where string }

// stand is since when a problem stands, and when it was seen last. Until is when it is forgotten at
// the earliest.
type stand struct{ since, seen, until time.Time }

// kept is a stand in the file.
type kept struct {
	Code  string    `json:"code"`
	Where string    `json:"where"`
	Since time.Time `json:"since"`
	// Gone reports that it was not found the last time.
	Gone bool `json:"gone,omitempty"`
}

// keptFile is the file.
type keptFile struct {
	At       time.Time `json:"at"` // At is when it was written.
	Problems []kept    `json:"problems"`
}

// Memory remembers since when each problem stands, by code and where. Its zero value is ready. It
// is safe for concurrent use.
type Memory struct {
	mu    sync.Mutex
	since map[problemKey]stand
	at    time.Time // at is when Date was called last.
	wrote keptFile  // wrote is what the file has.
}

// Date gives each problem that has no Since the time at which it was seen first. A problem that was
// not seen for a minute has ended; if it comes back, it begins anew. Beyond 1000 problems the
// further ones stand since now.
func (m *Memory) Date(all []api.Problem, now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.since == nil {
		m.since = map[problemKey]stand{}
	}
	m.at = now
	for k, s := range m.since {
		if now.Sub(s.seen) > forgetAfter && now.After(s.until) {
			delete(m.since, k)
		}
	}
	for i := range all {
		p := &all[i]
		if !p.Since.IsZero() {
			continue
		}
		k := problemKey{p.Code, p.Where}
		s, known := m.since[k]
		if !known {
			s.since = now
		}
		if known || len(m.since) < maxRemembered {
			m.since[k] = stand{since: s.since, seen: now}
		}
		p.Since = s.since
	}
}

// Load reads what Keep wrote before a restart. These problems stand since then if they are seen
// again within ten minutes, and if that is not more than an hour old. Without a file there are
// none.
func (m *Memory) Load(file string, now time.Time) error {
	b, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var f keptFile
	if err == nil {
		err = json.Unmarshal(b, &f)
	}
	if err != nil {
		return fmt.Errorf("since when problems stood before this start is not known: %w", err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.wrote = f
	if age := now.Sub(f.At); age < 0 || age > awayFor {
		return nil
	}
	if m.since == nil {
		m.since = map[problemKey]stand{}
	}
	for _, k := range f.Problems[:min(len(f.Problems), maxRemembered)] {
		if k.Since.After(now) {
			continue
		}
		s := stand{since: k.Since, seen: f.At}
		if !k.Gone {
			s.until = now.Add(againWithin)
		}
		m.since[problemKey{k.Code, k.Where}] = s
	}
	return nil
}

// Over says that a problem was told as over. If it was of before a restart, it is not waited for
// any longer.
func (m *Memory) Over(code, where string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	k := problemKey{code, where}
	if s, known := m.since[k]; known {
		s.until = time.Time{}
		m.since[k] = s
	}
}

// Keep writes the file for the next start, if it has changed what there is to remember. Every five
// minutes it is written anyhow, since its time says until when these problems stood.
func (m *Memory) Keep(file string, now time.Time) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := make([]kept, 0, len(m.since))
	for k, s := range m.since {
		all = append(all, kept{k.code, k.where, s.since, s.until.IsZero() && s.seen.Before(m.at)})
	}
	slices.SortFunc(all, func(a, b kept) int {
		return cmp.Or(cmp.Compare(a.Code, b.Code), cmp.Compare(a.Where, b.Where))
	})
	recent := len(all) == 0 || now.Sub(m.wrote.At) < writeEvery
	if slices.Equal(all, m.wrote.Problems) && recent {
		return nil
	}
	f := keptFile{now, all}
	b, err := json.Marshal(f)
	if err == nil {
		err = atomicfile.Write(file, b, 0o600)
	}
	if err != nil {
		return fmt.Errorf("since when problems stand is not kept for the next start: %w", err)
	}
	m.wrote = f
	return nil
}
