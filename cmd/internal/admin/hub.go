package admin

import (
	"context"
	"encoding/json"
	"net/http"
	"sync"
	"time"

	"github.com/lockstep-tls/lockstep/cmd/internal/api"
	"github.com/lockstep-tls/lockstep/identity"
)

// maxBehind is how many lines a watcher may be behind. A fleet that comes back at once fits.
const maxBehind = 8 << 10

// Hub hands each line to those who watch. A watcher that does not keep up is cut off. It can
// connect again, and read what it missed with `lockstep events`.
type Hub struct {
	mu    sync.Mutex
	out   map[chan *api.Line]bool
	ended bool
}

// NewHub returns a hub without watchers.
func NewHub() *Hub { return &Hub{out: map[chan *api.Line]bool{}} }

// Tell hands a line to all watchers. It never blocks.
func (h *Hub) Tell(l api.Line) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for c := range h.out {
		select {
		case c <- &l:
		default:
			delete(h.out, c)
			close(c)
		}
	}
}

// End cuts off all watchers, now and later, so that a stop does not wait for them.
func (h *Hub) End() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ended = true
	for c := range h.out {
		delete(h.out, c)
		close(c)
	}
}

// Watchers is how many watch now.
func (h *Hub) Watchers() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.out)
}

func (h *Hub) watch() (lines <-chan *api.Line, stop func()) {
	c := make(chan *api.Line, maxBehind)
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ended {
		close(c)
	} else {
		h.out[c] = true
	}
	return c, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		if h.out[c] {
			delete(h.out, c)
			close(c)
		}
	}
}

// events streams lines as JSON, one a line. They are those of all replicas, or with ?here those of
// this one. An empty line now and then shows a broken connection.
func (a *admin) events(w http.ResponseWriter, r *http.Request) {
	lines, stop := a.cfg.Hub.watch()
	defer stop()
	ctx, cancel := context.WithCancel(r.Context())
	var others chan *api.Line
	var following sync.WaitGroup
	if !r.URL.Query().Has("here") {
		others = make(chan *api.Line)
		following.Go(func() { a.follow(ctx, others) })
	}
	defer following.Wait()
	defer cancel()
	w.Header().Set("Content-Type", "application/x-ndjson")
	rc := http.NewResponseController(w)
	alive := time.NewTicker(15 * time.Second)
	defer alive.Stop()
	ends := time.After(proofCounts)
	enc := json.NewEncoder(w)
	for {
		if len(lines) == 0 && rc.Flush() != nil {
			return
		}
		select {
		case <-r.Context().Done():
			return
		case l, ok := <-lines:
			if !ok || enc.Encode(l) != nil {
				return
			}
		case l := <-others:
			if enc.Encode(l) != nil {
				return
			}
		case <-ends:
			if callerIn(r.Context()).peer { // it proves itself again
				return
			}
		case <-alive.C:
			// A token may have been revoked, and a policy may have changed. A proof counts once.
			if !callerIn(r.Context()).peer {
				if c, err := a.callerOf(r); err != nil || c.role < identity.Read {
					return
				}
			}
			if _, err := w.Write([]byte("\n")); err != nil {
				return
			}
		}
	}
}
