package catalog

import (
	"maps"
	"slices"
	"sync"

	"github.com/lockstep-tls/lockstep/keysource"
)

// Ill is a certificate in the store with which something is wrong.
type Ill struct {
	Name    keysource.Name
	Problem string // why it cannot be served, or that it has expired
}

// maxIlls bounds what is remembered.
const maxIlls = 100

// ills are the problems that reads met and no later read or write has cleared: to look for them would cost a scan of all that is stored.
type ills struct {
	mu     sync.Mutex
	byName map[keysource.Name]string
}

// note remembers what is wrong with n; "": nothing.
func (i *ills) note(n keysource.Name, problem string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	_, known := i.byName[n]
	switch {
	case problem == "":
		delete(i.byName, n)
	case known || len(i.byName) < maxIlls:
		if i.byName == nil {
			i.byName = map[keysource.Name]string{}
		}
		i.byName[n] = problem
	}
}

// Ills lists the certificates whose last read, for a node or a list, met a problem, by name; 100 at most.
func (c *Catalog) Ills() []Ill {
	c.ills.mu.Lock()
	defer c.ills.mu.Unlock()
	var out []Ill
	for _, n := range slices.Sorted(maps.Keys(c.ills.byName)) {
		out = append(out, Ill{n, c.ills.byName[n]})
	}
	return out
}
