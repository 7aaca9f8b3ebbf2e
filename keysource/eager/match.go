package eager

import (
	"path"
	"slices"

	"github.com/lockstep-tls/lockstep/keysource"
)

// keepBeyond is how many matched names beyond Max are kept. They are shown, and take the places of
// names that go. The rest is only counted.
const keepBeyond = 1000

// matches are the first names that a glob matches, in order, and how many more there are.
type matches struct {
	keep  int
	names []keysource.Name // sorted
	// last is the last name of which it is known whether it is matched. Of names after it none is
	// known. It is empty if all are known.
	last keysource.Name
	more int // how many names after last there were when they were counted
}

// onlyCounted reports whether n is after last.
func (m *matches) onlyCounted(n keysource.Name) bool { return m.last != "" && n > m.last }

// add adds a name that was not added before, or is not only counted.
func (m *matches) add(n keysource.Name) {
	if m.onlyCounted(n) {
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

// matches reports whether a glob matches n. No host is the name of a second certificate.
func (c *choice) matches(n keysource.Name) bool {
	return !n.IsSecond() && slices.ContainsFunc(c.match, func(glob string) bool {
		ok, _ := path.Match(glob, string(n)) // newChoice has checked the glob
		return ok
	})
}

// Look says that the certificates of these names may have come or gone. It never blocks.
func (e *Eager) Look(names []keysource.Name) {
	c := e.choice.Load()
	if len(c.match) == 0 {
		return
	}
	e.mu.Lock()
	for _, n := range names {
		switch {
		case !c.matches(n):
		case !e.scanning && e.matched.onlyCounted(n):
			e.miscounted = true // it is not known whether n was counted
		default:
			e.changed[n] = struct{}{}
		}
	}
	if len(e.changed) > maxChanged {
		clear(e.changed)
		e.rescan = true
	}
	pending := len(e.changed) > 0
	e.mu.Unlock()
	if pending {
		e.Wake()
	}
}
