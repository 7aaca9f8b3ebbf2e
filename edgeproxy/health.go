package edgeproxy

import (
	"sync"
	"time"
)

const (
	maxFailures = 3 // failures in a row after which an endpoint is out
	// outFor is how long it gets nothing then; after that one request tries it.
	outFor = 10 * time.Second
)

// health is what the requests to an endpoint say of it.
type health struct {
	mu       sync.Mutex
	failures int       // in a row
	until    time.Time // until when it is out; zero if it is not
}

// take reports whether an endpoint may be sent a request now. If it was out for long enough, this
// is the one request that tries it. Others wait for the outcome of that, or for as long again.
func (h *health) take(now time.Time) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.until.IsZero() {
		return true
	}
	if now.Before(h.until) {
		return false
	}
	h.until = now.Add(outFor)
	return true
}

// note counts the outcome of a request.
func (h *health) note(now time.Time, ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if ok {
		h.failures, h.until = 0, time.Time{}
	} else if h.failures++; h.failures >= maxFailures {
		h.until = now.Add(outFor)
	}
}
