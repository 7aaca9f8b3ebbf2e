package lds

import (
	"sync"

	"github.com/lockstep-tls/lockstep/keysource"
)

const (
	// maxBuilds bounds how far back versions are remembered: nodes that lag behind, or refuse what is newer, serve old ones.
	maxBuilds = 64
	// maxSets bounds the sets of hosts that are remembered of one build, and those of all but the newest two together; at 2000 hosts one is 32 KB.
	maxSets = 1024
)

// editions remembers which hosts a version of the listener has a chain for: of the newest two builds always, of older ones while there is room.
type editions struct {
	mu     sync.Mutex
	builds []map[string][]keysource.Name // hosts, sorted, by version; the newest build comes last
}

// begin has what is noted from now on remembered as that of another build.
func (e *editions) begin() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.builds = append(e.builds, map[string][]keysource.Name{})
	older := 0
	for i := len(e.builds) - 3; i >= 0; i-- {
		if older += len(e.builds[i]); older > maxSets || len(e.builds)-i > maxBuilds {
			e.builds = append([]map[string][]keysource.Name(nil), e.builds[i+1:]...)
			return
		}
	}
}

// note forgets no other version: what is beyond maxSets is not remembered.
func (e *editions) note(version string, hosts []keysource.Name) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if now := e.builds[len(e.builds)-1]; len(now) < maxSets {
		now[version] = hosts
	}
}

func (e *editions) of(version string) ([]keysource.Name, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for i := len(e.builds) - 1; i >= 0; i-- {
		if h, ok := e.builds[i][version]; ok {
			return h, true
		}
	}
	return nil, false
}
