package edgeproxy

import (
	"sync"
	"time"
)

// guard cuts off a client that lets one read or write wait for timeout. Time in which nothing waits for the client (its upstream is slow, a stream is silent) does
// not count, so it is no deadline of net/http's: in HTTP/2 one of those ends a stream even where nothing is read or written.
type guard struct {
	timeout time.Duration
	cut     func() // ends the read or write that waits; must not call the guard

	mu    sync.Mutex
	since time.Time // when what waits began; zero: nothing does
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

func (g *guard) look() {
	g.mu.Lock()
	defer g.mu.Unlock()
	waited := time.Since(g.since)
	switch {
	case g.done:
	case g.since.IsZero():
		g.timer.Reset(g.timeout) // what begins to wait now is looked at before its time, and then at its time
	case waited < g.timeout:
		g.timer.Reset(g.timeout - waited)
	default:
		g.done, g.fired = true, true
		g.cut()
	}
}

func (g *guard) hasCut() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.fired
}

// stop ends the guard; cut is not called after it has returned.
func (g *guard) stop() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.done = true
	if g.timer != nil {
		g.timer.Stop()
	}
}
