package catalog

import (
	"cmp"
	"context"
	"slices"
	"sync"

	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/store"
)

// BadEntry is a certificate in the store with which something is wrong.
type BadEntry struct {
	Name    keysource.Name
	Problem string // why it cannot be served, or that it has expired
	Expired bool   // Expired says that nothing else is wrong with it.
}

// maxProblems bounds how many problems are remembered.
const maxProblems = 100

// problems are the problems that reads met last, and that no later read or write has cleared. To
// search for them would cost a scan of all that is stored.
type problems struct {
	mu    sync.Mutex
	order []BadEntry // each name once; the latest is last
}

// note remembers what is wrong with n. An empty problem means that nothing is wrong.
func (p *problems) note(n keysource.Name, problem string) { p.add(BadEntry{Name: n, Problem: problem}) }

func (p *problems) add(b BadEntry) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.order = slices.DeleteFunc(p.order, func(e BadEntry) bool { return e.Name == b.Name })
	if b.Problem == "" {
		return
	}
	if len(p.order) == maxProblems {
		p.order = slices.Delete(p.order, 0, 1)
	}
	p.order = append(p.order, b)
}

// among lists those of names with which something is wrong.
func (p *problems) among(names []keysource.Name) (bad []keysource.Name) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.order) == 0 {
		return nil
	}
	known := make(map[keysource.Name]bool, len(p.order)) // there may be many names
	for _, one := range p.order {
		known[one.Name] = true
	}
	for _, n := range names {
		if known[n] {
			bad = append(bad, n)
		}
	}
	return bad
}

// recheck reads again those of names with which something was wrong. They have changed, perhaps at
// another replica, and no node may ever ask for them.
func (c *Catalog) recheck(ctx context.Context, names []keysource.Name) {
	for _, n := range c.problems.among(names) {
		var v store.Value
		v.Val, v.Rev, v.Err = c.store.Get(ctx, key(n))
		c.read(n, v)
	}
}

// BadEntries lists by name the certificates whose last read, for a node or for a list, met a
// problem. It has the hundred that were met last.
func (c *Catalog) BadEntries() []BadEntry {
	c.problems.mu.Lock()
	defer c.problems.mu.Unlock()
	return slices.SortedFunc(slices.Values(c.problems.order),
		func(a, b BadEntry) int { return cmp.Compare(a.Name, b.Name) })
}
