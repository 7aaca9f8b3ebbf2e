package problems

import (
	"sync"
	"time"

	"github.com/lockstep-tls/lockstep/cmd/internal/api"
)

const (
	// maxRemembered bounds the problems of which a [Memory] knows since when they stand.
	maxRemembered = 1000
	// forgetAfter is how long a problem may be gone and come back as the same one.
	forgetAfter = time.Minute
)

type problemKey struct{ code, where string }

// stand is since when a problem stands, and when it was seen last.
type stand struct{ since, seen time.Time }

// Memory remembers since when each problem stands, by code and where. Its zero value is ready. It
// is safe for concurrent use.
type Memory struct {
	mu    sync.Mutex
	since map[problemKey]stand
}

// Date gives each problem that has no Since the time at which it was seen first. A problem that was
// not seen for a minute has ended; if it comes back, it begins anew. Beyond 1000 problems the
// further ones stand since now.
func (m *Memory) Date(all []api.Problem, now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.since == nil {
		m.since = map[problemKey]stand{}
	}
	for k, s := range m.since {
		if now.Sub(s.seen) > forgetAfter {
			delete(m.since, k)
		}
	}
	for i := range all {
		p := &all[i]
		if !p.Since.IsZero() {
			continue
		}
		k := problemKey{p.Code, p.Where}
		s, known := m.since[k]
		if !known {
			s.since = now
		}
		if s.seen = now; known || len(m.since) < maxRemembered {
			m.since[k] = s
		}
		p.Since = s.since
	}
}
