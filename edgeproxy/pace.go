package edgeproxy

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// response is an [http.ResponseWriter] that counts, and whose writes are guarded.
type response struct {
	http.ResponseWriter
	control *http.ResponseController
	entry   *entry
	client  *connection
	body    *body // of the request; nil if it has none
	guard   guard
	http1   bool
	old     bool // HTTP/1.0
	duplex  bool // HTTP/1.1: the response may begin while the request is read
	wrote   bool // the final status was written
}

func newResponse(w http.ResponseWriter, r *http.Request, e *entry, timeout time.Duration) *response {
	rw := &response{ResponseWriter: w, control: http.NewResponseController(w), entry: e, http1: r.ProtoMajor == 1,
		old: !r.ProtoAtLeast(1, 1), client: connectionOf(r)}
	// past is an error means that the connection is closed already.
	past := func(set func(time.Time) error) { set(time.Now().Add(-time.Second)) }
	rw.guard = guard{timeout: timeout, cut: func() {
		past(rw.control.SetReadDeadline) // net/http reads the rest of a request before it writes
		past(rw.control.SetWriteDeadline)
	}}
	if r.Body != nil && r.Body != http.NoBody {
		rw.body = &body{ReadCloser: r.Body, stream: r.ContentLength < 0,
			guard: guard{timeout: timeout, cut: func() { past(rw.control.SetReadDeadline) }}}
		r.Body = rw.body
	}
	return rw
}

// wait is called with the timeouts of the request's route, before anything is read or written. A
// client that says how long its body is owes all of it. In a stream it may be the upstream's turn:
// then that has as long as for any answer.
func (w *response) wait(t Timeouts) {
	w.guard.timeout = t.Body
	if w.body != nil {
		w.body.guard.timeout = t.Body
		if w.body.stream {
			w.body.guard.timeout = max(t.Body, t.UpstreamHeader)
		}
	}
}

func (w *response) WriteHeader(status int) {
	if w.old && status < 200 {
		return // HTTP/1.0 has no such responses (RFC 9110, section 15.2)
	}
	if status == http.StatusSwitchingProtocols {
		return // an upgrade comes by Hijack, and an HTTP/2 upstream can make none
	}
	if !w.wrote {
		w.entry.status = status
		w.wrote = status >= 200
	}
	if w.wrote && w.body != nil {
		// An upstream that answers before the request has ended is in conversation with the
		// client. Either may be silent.
		w.body.guard.stop()
	}
	if h := w.Header(); w.wrote {
		if h["Content-Type"] == nil {
			h["Content-Type"] = nil // otherwise net/http would guess one
		}
		if w.duplex && !w.body.ended() {
			// Otherwise net/http would take the rest of the body for the next request.
			h.Set("Connection", "close")
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

// allowFullDuplex lets the response begin while the request is read. Otherwise net/http would read
// the rest of an HTTP/1.1 body itself. The upstream would be sent what it got as if it were whole.
func (w *response) allowFullDuplex() {
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

// Hijack is for [http.ResponseController]. An upgraded connection (WebSocket) has no timeout,
// since either side may be silent.
func (w *response) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, buf, err := w.control.Hijack()
	if err == nil {
		w.entry.status = http.StatusSwitchingProtocols
		if c, ok := w.client.Conn.(*http1); ok {
			conn = c.upgrade(buf.Reader)
		}
	}
	return conn, buf, err
}

// Unwrap is for [http.ResponseController].
func (w *response) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// end is called when the handler has ended. What net/http still reads and writes is of limited
// size, and gets timeout. net/http removes the deadlines itself.
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

// body is the body of a request, whose reads are guarded.
type body struct {
	io.ReadCloser
	// trailer is filled as the body ends. What upstreams would believe is removed from it then. It
	// is nil if the client is trusted.
	trailer http.Header
	stream  bool // the client does not say how long it is
	guard   guard
	// reading is held during a read. Of two that wait for HTTP/2, net/http would wake only one.
	reading sync.Mutex
	err     atomic.Pointer[error] // the error of the last read
}

func (b *body) Read(p []byte) (int, error) {
	b.reading.Lock()
	defer b.reading.Unlock()
	b.guard.enter()
	defer b.guard.leave()
	n, err := b.ReadCloser.Read(p)
	if err != nil {
		b.guard.stop()
		withoutBelieved(b.trailer)
		b.err.CompareAndSwap(nil, &err)
	}
	return n, err
}

// failed returns what the client did wrong, or nil if it has done nothing wrong.
func (b *body) failed() error {
	if b == nil {
		return nil
	}
	if b.guard.hasCut() {
		return os.ErrDeadlineExceeded // the read may not have returned yet
	}
	if err := b.err.Load(); err != nil && !errors.Is(*err, io.EOF) && !errors.Is(*err, http.ErrBodyReadAfterClose) {
		return *err
	}
	return nil
}

// ended reports whether the body was read to its end.
func (b *body) ended() bool {
	err := b.err.Load()
	return err != nil && errors.Is(*err, io.EOF)
}
