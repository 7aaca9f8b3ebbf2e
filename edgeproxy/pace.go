package edgeproxy

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"sync/atomic"
	"time"
)

// response is an [http.ResponseWriter] that counts, and whose writes are guarded.
type response struct {
	http.ResponseWriter
	control *http.ResponseController
	entry   *entry
	body    *body // the request's; nil: it has none
	guard   guard
	http1   bool
	duplex  bool // HTTP/1.1: the response may begin while the request is read
	wrote   bool // the status is the last one
}

func newResponse(w http.ResponseWriter, r *http.Request, e *entry, timeout time.Duration) *response {
	rw := &response{ResponseWriter: w, control: http.NewResponseController(w), entry: e, http1: r.ProtoMajor == 1}
	past := func(set func(time.Time) error) { set(time.Now().Add(-time.Second)) } // an error: the connection is closed already
	rw.guard = guard{timeout: timeout, cut: func() {
		past(rw.control.SetReadDeadline) // net/http reads the rest of a request before it writes
		past(rw.control.SetWriteDeadline)
	}}
	if r.Body != nil && r.Body != http.NoBody {
		rw.body = &body{ReadCloser: r.Body, guard: guard{timeout: timeout, cut: func() { past(rw.control.SetReadDeadline) }}}
		r.Body = rw.body
	}
	return rw
}

func (w *response) WriteHeader(status int) {
	if !w.wrote {
		w.entry.status = status
		w.wrote = status >= 200
	}
	if w.wrote && w.body != nil {
		w.body.guard.stop() // an upstream that answers before the request has ended is in conversation with the client: either may be silent
	}
	if h := w.Header(); w.wrote {
		if h["Content-Type"] == nil {
			h["Content-Type"] = nil // net/http would guess one
		}
		if w.duplex && !w.body.ended() {
			h.Set("Connection", "close") // or net/http would take what is left of the body for the next request
		}
	}
	w.guard.enter()
	defer w.guard.leave()
	w.ResponseWriter.WriteHeader(status)
}

func (w *response) Write(b []byte) (int, error) {
	if !w.wrote {
		w.WriteHeader(http.StatusOK)
	}
	w.guard.enter()
	defer w.guard.leave()
	n, err := w.ResponseWriter.Write(b)
	w.entry.bytes += int64(n)
	if err != nil && w.entry.err == nil {
		w.entry.err = err
	}
	return n, err
}

// converse lets the response begin while the request is read: net/http would take what is left of an HTTP/1.1 body for itself then, and the upstream would be sent
// the rest as though it were whole.
func (w *response) converse() {
	if w.http1 && w.body != nil {
		w.duplex = w.control.EnableFullDuplex() == nil
	}
}

// FlushError is for [http.ResponseController].
func (w *response) FlushError() error {
	w.guard.enter()
	defer w.guard.leave()
	return w.control.Flush()
}

// Hijack is for it as well: an upgraded connection (WebSocket) has no timeout, either side may be silent.
func (w *response) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, buf, err := w.control.Hijack()
	if err == nil {
		w.entry.status = http.StatusSwitchingProtocols
	}
	return conn, buf, err
}

// Unwrap is for [http.ResponseController], too.
func (w *response) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// end is called when the handler has ended. What net/http still reads and writes is of limited size, and has timeout; it takes the deadlines away itself.
func (w *response) end() {
	w.guard.stop()
	at := time.Now().Add(w.guard.timeout)
	w.control.SetWriteDeadline(at)
	if w.body != nil {
		w.body.guard.stop()
		if !w.body.ended() {
			w.control.SetReadDeadline(at)
		}
	}
}

// body is a request's, whose reads are guarded.
type body struct {
	io.ReadCloser
	guard guard
	err   atomic.Pointer[error] // of the read that was the last
}

func (b *body) Read(p []byte) (int, error) {
	b.guard.enter()
	defer b.guard.leave()
	n, err := b.ReadCloser.Read(p)
	if err != nil {
		b.guard.stop()
		b.err.CompareAndSwap(nil, &err)
	}
	return n, err
}

// failed returns what the client did wrong, nil while it has done nothing.
func (b *body) failed() error {
	if b == nil {
		return nil
	}
	if b.guard.hasCut() {
		return os.ErrDeadlineExceeded // the read has yet to return, maybe
	}
	if err := b.err.Load(); err != nil && !errors.Is(*err, io.EOF) && !errors.Is(*err, http.ErrBodyReadAfterClose) {
		return *err
	}
	return nil
}

func (b *body) ended() bool {
	err := b.err.Load()
	return err != nil && errors.Is(*err, io.EOF)
}
