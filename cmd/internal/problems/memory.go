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
	// Seen is when it was seen last. Files of earlier versions have none; there it is keptFile.At.
	Seen time.Time `json:"seen,omitzero"`
}

// keptFile is the file.
type keptFile struct {
	At       time.Time `json:"at"` // At is when it was written.
	Problems []kept    `json:"problems"`
}

// incidents are the codes of problems whose sources keep their times over a restart. One with a
// later time is another problem.
var incidents = []string{StoreLost, StoreFrozen, PolicyPutBack}

// Memory remembers since when each problem stands, by code and where. Its zero value is ready. It
// is safe for concurrent use.
type Memory struct {
	mu     sync.Mutex
	since  map[problemKey]stand
	looked time.Time // looked is when Date was called last.

	writing sync.Mutex // writing is held while the file is written, and never with mu.
	wrote   keptFile   // wrote is what the file has. Only who holds writing uses it.
	// write is atomicfile.Write if it is nil.
	write func(path string, content []byte, mode fs.FileMode) error
}

// Date takes all that stands now. It gives each problem the time at which it was seen first, or its
// own Since if that is earlier. So a source that begins anew, as with the stream of a node, does
// not make another problem of it. A problem that was not seen for a minute has ended; if it comes
// back, it begins anew. Beyond 1000 problems the further ones stand since now, or since what they
// say.
func (m *Memory) Date(all []api.Problem, now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.looked = now
	if m.since == nil {
		m.since = map[problemKey]stand{}
	}
	for k, s := range m.since {
		if now.Sub(s.seen) > forgetAfter && now.After(s.until) {
			delete(m.since, k)
		}
	}
	for i := range all {
		p := &all[i]
		k := problemKey{p.Code, p.Where}
		s, known := m.since[k]
		switch {
		case p.Since.IsZero() && !known:
			s.since = now
		case p.Since.IsZero():
		case !known || p.Since.Before(s.since) || slices.Contains(incidents, p.Code):
			s.since = p.Since
		}
		if known || len(m.since) < maxRemembered {
			m.since[k] = stand{since: s.since, seen: now}
		}
		p.Since = s.since
	}
}

// Load reads what Keep wrote before a restart. The problems that stood then stand since their time
// if they are seen again within ten minutes, and if they were seen last not more than an hour ago.
// Without a file there are none.
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
	m.writing.Lock()
	m.wrote = f
	m.writing.Unlock()
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.since == nil {
		m.since = map[problemKey]stand{}
	}
	for _, k := range f.Problems[:min(len(f.Problems), maxRemembered)] {
		if k.Seen.IsZero() {
			k.Seen = f.At
		}
		s := stand{since: k.Since, seen: k.Seen, until: now.Add(againWithin)}
		if f.At.Sub(k.Seen) > forgetAfter { // from a start before that one, which did not see it
			s.until = k.Seen.Add(againWithin)
		}
		if age := now.Sub(k.Seen); age >= 0 && age <= awayFor && !k.Since.After(now) && now.Before(s.until) {
			m.since[problemKey{k.Code, k.Where}] = s
		}
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
// minutes it is written anyhow, since it says until when these problems stood. A disk that hangs
// holds up nobody but the caller.
func (m *Memory) Keep(file string, now time.Time) error {
	all := m.standing(now)
	m.writing.Lock()
	defer m.writing.Unlock()
	same := slices.EqualFunc(all, m.wrote.Problems, func(a, b kept) bool {
		return a.Code == b.Code && a.Where == b.Where && a.Since.Equal(b.Since)
	})
	if same && (len(all) == 0 || now.Sub(m.wrote.At) < writeEvery) {
		return nil
	}
	f := keptFile{now, all}
	b, err := json.Marshal(f)
	if err == nil {
		write := m.write
		if write == nil {
			write = atomicfile.Write
		}
		err = write(file, b, 0o600)
	}
	if err != nil {
		return fmt.Errorf("since when problems stand is not kept for the next start: %w", err)
	}
	m.wrote = f
	return nil
}

// standing are the problems that were seen the last time, and those from before the start that may
// still be seen again.
func (m *Memory) standing(now time.Time) []kept {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := make([]kept, 0, len(m.since))
	for k, s := range m.since {
		if !s.seen.Before(m.looked) || now.Before(s.until) {
			all = append(all, kept{k.code, k.where, s.since, s.seen})
		}
	}
	slices.SortFunc(all, func(a, b kept) int {
		return cmp.Or(cmp.Compare(a.Code, b.Code), cmp.Compare(a.Where, b.Where))
	})
	return all
}
