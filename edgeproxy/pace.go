package edgeproxy

import (
	"io"
	"net/http"
	"time"
)

// A client that sends or takes a piece of a body every now and then may go on for ever, one that stops is cut off: the deadline moves with each piece. It is
// set anew at most once in a hundredth of the timeout, since it costs as much as a small write.
type pace struct {
	timeout time.Duration
	set     func(time.Time) error
	at      time.Time // when it was set last
}

func (p *pace) step() {
	now := time.Now()
	if now.Sub(p.at) > p.timeout/100 {
		p.at = now
		p.set(now.Add(p.timeout)) // what cannot have a deadline is a connection that is closed already
	}
}

// response is an [http.ResponseWriter] that counts, and whose writes have a deadline.
type response struct {
	http.ResponseWriter
	entry *entry
	pace  pace
	wrote bool
}

func (w *response) WriteHeader(status int) {
	if !w.wrote {
		w.entry.status = status
		w.wrote = status >= 200 || status == http.StatusSwitchingProtocols
	}
	w.pace.step()
	w.ResponseWriter.WriteHeader(status)
}

func (w *response) Write(b []byte) (int, error) {
	w.wrote = true
	w.pace.step()
	n, err := w.ResponseWriter.Write(b)
	w.entry.bytes += int64(n)
	return n, err
}

// Unwrap is for [http.ResponseController].
func (w *response) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// body is a request's, whose reads have a deadline.
type body struct {
	io.ReadCloser
	pace pace
}

func (b *body) Read(p []byte) (int, error) {
	b.pace.step()
	n, err := b.ReadCloser.Read(p)
	if err != nil {
		b.pace.set(time.Time{}) // net/http goes on reading, to notice that the client leaves
	}
	return n, err
}
