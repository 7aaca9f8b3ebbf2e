package lds

import (
	"sync"

	"github.com/lockstep-tls/lockstep/keysource"
)

const (
	// maxBuilds bounds how many builds are remembered. Nodes that lag behind, or refuse what is
	// newer, serve old ones.
	maxBuilds = 64
	// maxSets bounds how many sets of hosts are remembered of one build, and of all builds but the
	// newest two together. With 2000 hosts a set has 32 KB.
	maxSets = 1024
)

// editions remembers for which hosts a version of the listener has a chain. It always remembers
// the newest two builds, and older ones while there is room.
type editions struct {
	mu sync.Mutex
	// builds holds, for each build, the sorted hosts by version. The newest build comes last.
	builds []map[string][]keysource.Name
}

// begin starts another build, to which everything belongs that is noted from now on.
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

// note remembers the hosts of a version of the newest build. Beyond maxSets it remembers nothing,
// and forgets no other version.
func (e *editions) note(version string, hosts []keysource.Name) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if now := e.builds[len(e.builds)-1]; len(now) < maxSets {
		now[version] = hosts
	}
}

// of returns the hosts of a version, if it is remembered.
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
