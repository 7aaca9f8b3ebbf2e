package eager

import (
	"context"
	"errors"
	"path"
	"slices"

	"github.com/lockstep-tls/lockstep/keysource"
)

// keepBeyond is how many matched names beyond Max are kept, to be shown; of more than that only the number is known.
const keepBeyond = 1000

// matches are the first names that a glob matches, in order, and how many more there are.
type matches struct {
	keep  int
	names []keysource.Name // sorted
	more  int
}

func (m *matches) add(n keysource.Name) {
	i, found := slices.BinarySearch(m.names, n)
	switch {
	case found:
		return
	case len(m.names) < m.keep:
		m.names = slices.Insert(m.names, i, n)
	default:
		m.more++
		if i < m.keep {
			m.names = slices.Insert(m.names[:m.keep-1], i, n)
		}
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
		if e.matches(n) {
			e.dirty[n] = struct{}{}
		}
	}
	if len(e.dirty) > maxDirty {
		clear(e.dirty)
		e.rescan = true
	}
	some := len(e.dirty) > 0 || e.rescan
	e.mu.Unlock()
	if some {
		e.Wake()
	}
}

// readMatches finds out which certificates are matched now: all of them at first, and where some are only counted; else those that may have changed.
func (e *Eager) readMatches(ctx context.Context) error {
	if len(e.cfg.Match) == 0 {
		return nil
	}
	e.mu.Lock()
	dirty := e.dirty
	e.dirty = map[keysource.Name]struct{}{}
	all := e.rescan || e.matched.more > 0 && len(dirty) > 0
	e.rescan = false
	e.mu.Unlock()
	err := e.read(ctx, all, dirty)
	if err != nil {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.rescan = e.rescan || all
		for n := range dirty {
			e.dirty[n] = struct{}{}
		}
	}
	return err
}

func (e *Eager) read(ctx context.Context, all bool, dirty map[keysource.Name]struct{}) error {
	if all {
		found := matches{keep: e.matched.keep}
		for n, err := range e.cfg.Names(ctx) {
			if err != nil {
				return err
			}
			if e.matches(n) {
				found.add(n)
			}
		}
		e.mu.Lock()
		defer e.mu.Unlock()
		e.matched = found
		return nil
	}
	for n := range dirty {
		_, _, err := e.cfg.Sources.Find(ctx, n)
		gone := errors.Is(err, keysource.ErrNotExist)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		e.mu.Lock()
		if gone {
			e.matched.remove(n)
		} else if err == nil { // one that cannot be read now is as eager as it was
			e.matched.add(n)
		}
		e.mu.Unlock()
	}
	return nil
}
