package edgeproxy

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime/debug"
	"sync"
	"time"
)

// queue is a listener of connections whose handshakes are done. Two servers share a listener, one
// for each version of HTTP: only HTTP/1 has a reader of its own.
type queue struct {
	addr net.Addr
	come chan net.Conn
	once sync.Once
	done chan struct{}
}

func newQueue(addr net.Addr) *queue {
	return &queue{addr: addr, come: make(chan net.Conn), done: make(chan struct{})}
}

// put hands c over, or closes it if nobody takes connections any more.
func (q *queue) put(c net.Conn) {
	select {
	case q.come <- c:
	case <-q.done:
		c.Close()
	}
}

func (q *queue) Accept() (net.Conn, error) {
	select {
	case c := <-q.come:
		return c, nil
	case <-q.done:
		return nil, net.ErrClosed
	}
}

func (q *queue) Close() error {
	q.once.Do(func() { close(q.done) })
	return nil
}

func (q *queue) Addr() net.Addr { return q.addr }

// serve answers connections until the servers are shut down.
func (l *listener) serve() error {
	first, second := newQueue(l.front.Addr()), newQueue(l.front.Addr())
	var servers sync.WaitGroup
	for s, q := range map[*http.Server]*queue{l.http1: first, l.http2: second} {
		servers.Go(func() { s.Serve(q) })
	}
	err := l.accept(first, second)
	close(l.accepted)
	if err == nil {
		servers.Wait()
	}
	return err
}

// accept takes connections until the listener is closed.
func (l *listener) accept(first, second *queue) error {
	var pause time.Duration
	for {
		c, err := l.front.Accept()
		var passing interface{ Temporary() bool }
		switch {
		case err == nil:
			pause = 0
			l.handshakes.Go(func() { l.handshake(c, first, second) })
		case errors.Is(err, net.ErrClosed):
			return nil
		case errors.As(err, &passing) && passing.Temporary(): // as net/http does it
			pause = min(max(2*pause, 5*time.Millisecond), time.Second)
			l.proxy.opts.Log.Warn("a connection cannot be accepted", "listener", l.Address, "error", err,
				"again_in", pause)
			time.Sleep(pause)
		default:
			return fmt.Errorf("%s: %w", l.Address, err)
		}
	}
}

// attempt is a handshake that goes on.
type attempt struct {
	hello    bool // hello is true once the client's first message was read.
	name     string
	versions []uint16
	early    bool // early is true if the client offers early data.
}

// attemptKey is the key of a handshake's context under which its attempt stands.
type attemptKey struct{}

// attemptOf returns the attempt to which a message belongs.
func attemptOf(hello *tls.ClientHelloInfo) *attempt {
	if a, ok := hello.Context().Value(attemptKey{}).(*attempt); ok {
		return a
	}
	return new(attempt)
}

// handshake makes the handshake of a connection, and hands the connection to the server of the
// protocol that was agreed on.
func (l *listener) handshake(raw net.Conn, first, second *queue) {
	a, c := new(attempt), tls.Server(raw, l.tls)
	defer func() {
		if v := recover(); v != nil {
			l.proxy.opts.Log.Error("a handshake panics", "listener", l.Address, "panic", fmt.Sprint(v),
				"stack", string(debug.Stack()))
			raw.Close()
		}
	}()
	if b, ok := raw.(*fromBalancer); ok {
		end := context.AfterFunc(l.handshaking, func() { b.Close() })
		b.RemoteAddr() // reads the header, which sets deadlines of its own
		end()
	}
	c.SetDeadline(time.Now().Add(l.proxy.cfg.Timeouts.Header))
	ctx := context.WithValue(l.handshaking, attemptKey{}, a)
	if err := c.HandshakeContext(ctx); err != nil {
		if record := (tls.RecordHeaderError{}); errors.As(err, &record) && record.Conn != nil &&
			looksLikeHTTP(record.RecordHeader) {
			io.WriteString(record.Conn, "HTTP/1.0 400 Bad Request\r\n\r\n"+
				"Client sent an HTTP request to an HTTPS server.\n")
		}
		l.failed(raw.RemoteAddr().String(), a, err)
		c.Close()
		return
	}
	c.SetDeadline(time.Time{})
	if c.ConnectionState().NegotiatedProtocol == "h2" {
		second.put(c)
	} else {
		first.put(&http1{Conn: c, listener: l, own: true})
	}
}

// looksLikeHTTP reports whether a connection begins with a request in the clear.
func looksLikeHTTP(first [5]byte) bool {
	switch string(first[:]) {
	case "GET /", "HEAD ", "POST ", "PUT /", "OPTIO", "PATCH", "DELET", "CONNE", "TRACE", "PRI *":
		return true
	}
	return false
}

// stop accepts nothing more. Handshakes that have begun get a moment, then the servers end.
func (l *listener) stop(late context.Context) error {
	l.front.Close()
	<-l.accepted
	begun := make(chan struct{})
	go func() {
		l.handshakes.Wait()
		close(begun)
	}()
	select {
	case <-begun:
	case <-late.Done():
	case <-time.After(handshakeGrace):
	}
	l.endHandshakes()
	<-begun
	var g sync.WaitGroup
	var ended [2]error
	for i, s := range []*http.Server{l.http1, l.http2} {
		g.Go(func() { ended[i] = s.Shutdown(late) })
	}
	g.Wait()
	return errors.Join(ended[:]...)
}

// handshakeGrace is how long a handshake that has begun may go on when the proxy is told to stop.
// A line with a long delay, or a certificate that is still loaded, needs more than a second.
// Net/http waits as long for the first request of a connection.
const handshakeGrace = 5 * time.Second
