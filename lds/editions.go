package lds

import (
	"slices"
	"sync"

	"github.com/lockstep-tls/lockstep/keysource"
)

// editions remembers which hosts a version of the listener has a chain for, of the newest versions.
type editions struct {
	mu    sync.Mutex
	order []string
	hosts map[string][]keysource.Name // sorted
}

const maxEditions = 64

func (e *editions) note(version string, hosts []keysource.Name) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if _, ok := e.hosts[version]; ok { // again in use: it is the newest now
		e.order = slices.DeleteFunc(e.order, func(v string) bool { return v == version })
	}
	if e.hosts == nil {
		e.hosts = map[string][]keysource.Name{}
	}
	if len(e.order) == maxEditions {
		delete(e.hosts, e.order[0])
		e.order = e.order[1:]
	}
	e.order = append(e.order, version)
	e.hosts[version] = hosts
}

func (e *editions) of(version string) ([]keysource.Name, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	h, ok := e.hosts[version]
	return h, ok
}
