// Package aside does what may hang, such as a write to a disk, beside the one who wants it done.
package aside

import (
	"sync"
	"time"
)

// Runner runs one function at a time, each in a goroutine of its own. Its zero value is ready. All
// methods are safe for concurrent use, and what one function wrote the next one sees.
type Runner struct {
	mu      sync.Mutex
	running chan struct{} // running is closed when the function has returned. Nil: there is none.
}

// Do runs f, and waits for it no longer than wait. While an earlier function still runs, it does
// nothing. It reports whether it began.
func (r *Runner) Do(f func(), wait time.Duration) (begun bool) {
	done := make(chan struct{})
	r.mu.Lock()
	if r.running != nil {
		r.mu.Unlock()
		return false
	}
	r.running = done
	r.mu.Unlock()
	go func() {
		defer close(done)
		defer func() {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.running = nil
		}()
		f()
	}()
	within(done, wait)
	return true
}

// Wait waits until no function runs, and no longer than wait. It reports whether none does.
func (r *Runner) Wait(wait time.Duration) bool {
	r.mu.Lock()
	done := r.running
	r.mu.Unlock()
	return done == nil || within(done, wait)
}

func within(done <-chan struct{}, wait time.Duration) bool {
	if wait <= 0 {
		return false
	}
	select {
	case <-done:
		return true
	case <-time.After(wait):
		return false
	}
}
