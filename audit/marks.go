package audit

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/lockstep-tls/lockstep/internal/atomicfile"
)

// marks are the newest heads that this replica has seen, by chain.
type marks struct {
	path string
	wake chan struct{} // capacity 1: something is to be saved

	mu    sync.Mutex
	heads map[string]Head
	gaps  map[string]Gap // what the sinks lack, by chain
}

// marksFile is the JSON of the file.
type marksFile struct {
	Heads []string       `json:"heads"`
	Gaps  map[string]Gap `json:"gaps,omitempty"`
}

func readMarks(path string) (*marks, error) {
	m := &marks{path: path, wake: make(chan struct{}, 1), heads: map[string]Head{}, gaps: map[string]Gap{}}
	if path == "" {
		return m, nil
	}
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return m, nil
	}
	var f marksFile
	if err == nil {
		err = json.Unmarshal(b, &f)
	}
	for _, s := range f.Heads {
		h, bad := ParseHead(s)
		if bad != nil {
			err = bad
			break
		}
		m.heads[h.Chain] = h
	}
	maps.Copy(m.gaps, f.Gaps)
	if err != nil {
		return nil, fmt.Errorf("audit: %s: %w; it says how far the audit log had come: put it back, "+
			"or remove it if you know what happened to it", path, err)
	}
	return m, nil
}

func (m *marks) get(chain string) Head {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.heads[chain]
}

// see notes a head, unless a later one is known.
func (m *marks) see(h Head) {
	m.mu.Lock()
	later := h.Number > m.heads[h.Chain].Number
	if later {
		m.heads[h.Chain] = h
	}
	m.mu.Unlock()
	if later {
		m.rouse()
	}
}

// rouse has the file written soon.
func (m *marks) rouse() {
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

func (m *marks) gap(chain string) Gap {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.gaps[chain]
}

// miss notes lines that a sink does not have; see [Gap].
func (m *marks) miss(chain string, at time.Time, lines, refused int, why error) {
	m.mu.Lock()
	m.gaps[chain] = m.gaps[chain].with(at, lines, refused, why)
	m.mu.Unlock()
	m.rouse()
}

// fill notes that the sink itself tells of this gap by now. What was missed meanwhile stays.
func (m *marks) fill(chain string, told Gap) {
	if told.IsZero() {
		return
	}
	m.mu.Lock()
	g := m.gaps[chain]
	g.Lines, g.Refused = g.Lines-told.Lines, g.Refused-told.Refused
	if m.gaps[chain] = g; g.IsZero() {
		delete(m.gaps, chain)
	}
	m.mu.Unlock()
	m.rouse()
}

// all returns a copy.
func (m *marks) all() map[string]Head {
	m.mu.Lock()
	defer m.mu.Unlock()
	return maps.Clone(m.heads)
}

// save writes the file anew, whole or not at all.
func (m *marks) save() error {
	if m.path == "" {
		return nil
	}
	var f marksFile
	heads := m.all()
	for _, chain := range slices.Sorted(maps.Keys(heads)) {
		f.Heads = append(f.Heads, heads[chain].String())
	}
	m.mu.Lock()
	f.Gaps = maps.Clone(m.gaps)
	m.mu.Unlock()
	b, err := json.Marshal(f)
	if err != nil {
		return err
	}
	return atomicfile.Write(m.path, append(b, '\n'), 0o600)
}
