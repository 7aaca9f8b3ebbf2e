package edgeproxy

import (
	"errors"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// replayable is how much of the body of a request is kept, so that it can be sent again.
	replayable = 64 << 10
	// replayableOfClient is the same for all requests of one connection of a client.
	replayableOfClient = 1 << 20
)

// keptKey is for the context of a client's connection. It has an *atomic.Int64, which counts the
// bytes that are kept of its requests.
type keptKey struct{}

// upload is the body of a request. Each attempt to send it reads it from the beginning. It is read
// from the client once, by a goroutine: what waits for an upstream must not wait for the client.
type upload struct {
	from  io.Reader
	total *atomic.Int64 // bytes that are kept of this client's requests

	mu    sync.Mutex
	buf   []byte        // what was read and is kept, or was not taken yet
	start int64         // where in the body buf begins
	kept  bool          // buf has all that was read
	count int64         // how much of total is this body's
	most  int           // how much is kept
	err   error         // what follows buf; nil if that is not known
	wait  chan struct{} // closed when the piece that is read now is there; nil if none is
	size  int           // of the next piece
	space []byte        // into which a piece was read, and may be again
}

// newUpload returns the body of req. It is nil if there is none.
func newUpload(req *http.Request) *upload {
	if req.Body == nil {
		return nil
	}
	total, _ := req.Context().Value(keptKey{}).(*atomic.Int64)
	if total == nil {
		total = new(atomic.Int64)
	}
	u := &upload{from: req.Body, total: total, kept: true, size: 4 << 10, most: replayable}
	switch n := req.ContentLength; {
	case n > replayable: // as much as a transport takes before it writes anything
		u.size, u.most = bufferSize, bufferSize
	case n > 0:
		u.size = min(u.size, int(n))
	}
	return u
}

// again reports whether the body can be sent again.
func (u *upload) again() bool {
	if u == nil {
		return true
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.kept
}

// settle is called when the body will not be sent again. What r has read is given up.
func (u *upload) settle(r *reading) {
	if u == nil {
		return
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.forget()
	if r != nil {
		r.guard.stop()
		u.drop(r.at)
	}
}

// forget keeps nothing more. The caller holds the mutex.
func (u *upload) forget() {
	u.kept = false
	u.total.Add(-u.count)
	u.count = 0
}

// drop gives up what lies before at, if nothing is kept. The caller holds the mutex.
func (u *upload) drop(at int64) {
	if u.kept || at <= u.start {
		return
	}
	if u.buf, u.start = u.buf[at-u.start:], at; len(u.buf) == 0 {
		u.buf = nil
	}
}

// fill reads the next piece from the client.
func (u *upload) fill(into []byte) {
	n, err := u.from.Read(into)
	u.mu.Lock()
	defer u.mu.Unlock()
	switch {
	case n == 0:
	case u.buf == nil:
		u.buf = into[:n:n]
	default:
		u.buf = append(u.buf, into[:n]...)
	}
	u.space = into
	if n == len(into) {
		u.size = min(2*u.size, bufferSize)
	}
	if u.kept {
		u.count += int64(n)
		if u.total.Add(int64(n)) > replayableOfClient || len(u.buf) > u.most {
			u.forget()
		}
	}
	u.err = err
	close(u.wait)
	u.wait = nil
}

// next returns where the next piece is read to. The caller holds the mutex.
func (u *upload) next() []byte {
	inUse := u.buf != nil && &u.buf[0] == &u.space[0]
	if len(u.space) < u.size || inUse {
		return make([]byte, u.size)
	}
	return u.space
}

// reading is one attempt to send an upload.
type reading struct {
	*upload
	at   int64
	link <-chan struct{} // closed when the connection is
	once sync.Once
	stop chan struct{} // closed when the attempt has ended
	// guard ends the attempt if the endpoint takes nothing for too long, nor answers.
	guard guard
}

// read begins an attempt, which cut ends if the endpoint is silent for timeout.
func (u *upload) read(link <-chan struct{}, timeout time.Duration, cut func()) *reading {
	return &reading{upload: u, link: link, stop: make(chan struct{}), guard: guard{timeout: timeout, cut: cut}}
}

var errNotWanted = errors.New("the attempt to send the body has ended")

// Read waits for the client, but not longer than the connection and the attempt last.
func (r *reading) Read(p []byte) (int, error) {
	r.guard.leave()
	defer r.guard.enter() // now it is the endpoint's turn
	r.mu.Lock()
	defer r.mu.Unlock()
	for {
		select {
		case <-r.stop:
			return 0, errNotWanted
		default:
		}
		if r.at < r.start {
			return 0, errNotWanted
		}
		if have := r.buf[r.at-r.start:]; len(have) > 0 {
			n := copy(p, have)
			r.at += int64(n)
			r.drop(r.at)
			return n, nil
		}
		if r.err != nil {
			return 0, r.err
		}
		if r.wait == nil {
			if r.kept && r.most < replayable && len(r.buf) >= r.most {
				r.forget()
				r.drop(r.at)
			}
			r.wait = make(chan struct{})
			go r.fill(r.next())
		}
		wait := r.wait
		r.mu.Unlock()
		select {
		case <-wait:
		case <-r.stop:
		case <-r.link:
			r.Close()
		}
		r.mu.Lock()
	}
}

// Close ends the attempt. Transports call it.
func (r *reading) Close() error {
	r.once.Do(func() {
		r.guard.stop()
		close(r.stop)
	})
	return nil
}
