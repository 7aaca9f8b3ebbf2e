package edgeproxy

import (
	"sync"
	"time"
)

// guard cuts off a client that lets one read or write wait for timeout. Time in which nothing
// waits for the client does not count: its upstream may be slow, a stream may be silent. So it is
// no deadline of net/http, which in HTTP/2 ends a stream even if nothing is read or written.
type guard struct {
	timeout time.Duration
	cut     func() // ends the read or write that waits; it must not call the guard

	mu    sync.Mutex
	since time.Time // when the present wait began; zero if nothing waits
	timer *time.Timer
	done  bool
	fired bool
}

// enter is called before a read or write, leave after it.
func (g *guard) enter() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.done {
		return
	}
	g.since = time.Now()
	if g.timer == nil {
		g.timer = time.AfterFunc(g.timeout, g.look)
	}
}

func (g *guard) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.since = time.Time{}
}

// look cuts the client off if it has kept a read or write waiting for too long.
func (g *guard) look() {
	g.mu.Lock()
	defer g.mu.Unlock()
	waited := time.Since(g.since)
	switch {
	case g.done:
	case g.since.IsZero():
		// What begins to wait now is looked at once before its time is over, and again when it is.
		g.timer.Reset(g.timeout)
	case waited < g.timeout:
		g.timer.Reset(g.timeout - waited)
	default:
		g.done, g.fired = true, true
		g.cut()
	}
}

// hasCut reports whether the client was cut off.
func (g *guard) hasCut() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.fired
}

// stop ends the guard. cut is not called after stop has returned.
func (g *guard) stop() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.done = true
	if g.timer != nil {
		g.timer.Stop()
	}
}
