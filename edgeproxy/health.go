package edgeproxy

import (
	"sync"
	"time"
)

const (
	failuresMost = 3                // in a row, then an endpoint is out
	outFor       = 10 * time.Second // and gets nothing for so long; then one request tries it
)

// health is what the requests to an endpoint say of it.
type health struct {
	mu       sync.Mutex
	failures int       // in a row
	until    time.Time // it is out; zero: it is not
}

// take reports whether an endpoint may be sent a request now. Where it was out for long enough, this is the one request that tries it, and others have to wait for
// what becomes of that, or for as long again.
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

// note counts what became of a request.
func (h *health) note(now time.Time, ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if ok {
		h.failures, h.until = 0, time.Time{}
	} else if h.failures++; h.failures >= failuresMost {
		h.until = now.Add(outFor)
	}
}
