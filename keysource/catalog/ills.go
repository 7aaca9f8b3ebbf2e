package catalog

import (
	"cmp"
	"context"
	"slices"
	"sync"

	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/store"
)

// Ill is a certificate in the store with which something is wrong.
type Ill struct {
	Name    keysource.Name
	Problem string // why it cannot be served, or that it has expired
}

// maxIlls bounds what is remembered.
const maxIlls = 100

// ills are the problems that reads met last and no later read or write has cleared: to look for them would cost a scan of all that is stored.
type ills struct {
	mu    sync.Mutex
	order []Ill // each name once; the one that was met last is the last
}

// note remembers what is wrong with n; "": nothing.
func (i *ills) note(n keysource.Name, problem string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.order = slices.DeleteFunc(i.order, func(ill Ill) bool { return ill.Name == n })
	if problem == "" {
		return
	}
	if len(i.order) == maxIlls {
		i.order = slices.Delete(i.order, 0, 1)
	}
	i.order = append(i.order, Ill{n, problem})
}

// among lists those of names that are remembered.
func (i *ills) among(names []keysource.Name) (ill []keysource.Name) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if len(i.order) == 0 {
		return nil
	}
	known := make(map[keysource.Name]bool, len(i.order)) // names may be many
	for _, one := range i.order {
		known[one.Name] = true
	}
	for _, n := range names {
		if known[n] {
			ill = append(ill, n)
		}
	}
	return ill
}

// recheck reads those of names again with which something was wrong: they have changed, perhaps at another replica, and no node may ask for them.
func (c *Catalog) recheck(ctx context.Context, names []keysource.Name) {
	for _, n := range c.ills.among(names) {
		var v store.Value
		v.Val, v.Rev, v.Err = c.store.Get(ctx, key(n))
		c.read(n, v)
	}
}

// Ills lists the certificates whose last read, for a node or a list, met a problem, by name: the hundred that were met last.
func (c *Catalog) Ills() []Ill {
	c.ills.mu.Lock()
	defer c.ills.mu.Unlock()
	return slices.SortedFunc(slices.Values(c.ills.order), func(a, b Ill) int { return cmp.Compare(a.Name, b.Name) })
}
