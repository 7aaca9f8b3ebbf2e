package eager

import (
	"path"
	"slices"

	"github.com/lockstep-tls/lockstep/keysource"
)

// keepBeyond is how many matched names beyond Max are kept, to be shown, and to take the places of names that go; the rest is only counted.
const keepBeyond = 1000

// matches are the first names that a glob matches, in order, and how many more there are.
type matches struct {
	keep  int
	names []keysource.Name // sorted
	last  keysource.Name   // of names up to this one all are known, of those after it none; "": all are known
	more  int              // names after last, when they were counted
}

// beyond reports whether n is one of those that are only counted.
func (m *matches) beyond(n keysource.Name) bool { return m.last != "" && n > m.last }

// add takes a name that was not added before, or is not beyond.
func (m *matches) add(n keysource.Name) {
	if m.beyond(n) {
		m.more++
		return
	}
	i, found := slices.BinarySearch(m.names, n)
	if found {
		return
	}
	m.names = slices.Insert(m.names, i, n)
	if len(m.names) > m.keep {
		m.names = m.names[:m.keep]
		m.last = m.names[m.keep-1]
		m.more++
	}
}

func (m *matches) remove(n keysource.Name) {
	if i, found := slices.BinarySearch(m.names, n); found {
		m.names = slices.Delete(m.names, i, i+1)
	}
}

func (e *Eager) matches(n keysource.Name) bool {
	return slices.ContainsFunc(e.cfg.Match, func(glob string) bool {
		ok, _ := path.Match(glob, string(n)) // New has tried the glob
		return ok
	})
}

// Look says that the certificates of these names may have come or gone. It never blocks.
func (e *Eager) Look(names []keysource.Name) {
	if len(e.cfg.Match) == 0 {
		return
	}
	e.mu.Lock()
	for _, n := range names {
		switch {
		case !e.matches(n):
		case !e.scanning && e.matched.beyond(n):
			e.miscounted = true // whether it was counted is not known
		default:
			e.dirty[n] = struct{}{}
		}
	}
	if len(e.dirty) > maxDirty {
		clear(e.dirty)
		e.rescan = true
	}
	some := len(e.dirty) > 0
	e.mu.Unlock()
	if some {
		e.Wake()
	}
}
