package edgeproxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/idna"
)

// links are the connections to an endpoint. net/http's own pool is not used: it does not say
// whether a request was sent, and repeats some that must not be repeated. Nor does it end a dial
// whose client has left.
type links struct {
	transport *http.Transport // makes connections
	scheme    string
	address   string
	idle      time.Duration // how long a connection is kept that no request uses
	http2     atomic.Bool   // the endpoint is known to speak HTTP/2

	mu      sync.Mutex
	free    []*link // may take a request; the one that was used last is the last one
	all     map[*link]struct{}
	dialing *dial // of an endpoint that speaks HTTP/2; nil if there is none
}

// link is a connection to an endpoint.
type link struct {
	*http.ClientConn
	wire   *wire
	shared bool        // HTTP/2
	used   atomic.Bool // it has carried a request

	// The mutex of links guards the following.
	inFree bool
	idle   time.Duration
	since  time.Time   // when the last request ended
	timer  *time.Timer // nil if no look at since is due
}

// dial is one that others wait for.
type dial struct {
	done chan struct{}
	err  error
}

// wire is what is below a link.
type wire struct {
	net.Conn
	sent   atomic.Int64 // bytes that were written
	shared atomic.Bool  // it is for HTTP/2
	failed atomic.Bool  // nothing more can be written
	once   sync.Once
	closed chan struct{}
}

// Write reports no error of HTTP/2. If nothing more can be written, the connection still has what
// the endpoint said last, such as GOAWAY and responses. After a failed write net/http would not
// read them, and would end all streams.
func (w *wire) Write(p []byte) (int, error) {
	if w.failed.Load() {
		return len(p), nil
	}
	n, err := w.Conn.Write(p)
	w.sent.Add(int64(n))
	if err != nil && w.shared.Load() && !errors.Is(err, net.ErrClosed) {
		w.failed.Store(true)
		w.Conn.SetReadDeadline(time.Now().Add(lastWords))
		return len(p), nil
	}
	return n, err
}

// lastWords is how long the rest is read of a connection to which nothing can be written. It is
// there already.
const lastWords = 100 * time.Millisecond

func (w *wire) Read(p []byte) (int, error) {
	n, err := w.Conn.Read(p)
	if err != nil && w.failed.Load() {
		err = io.EOF
	}
	return n, err
}

func (w *wire) Close() error {
	w.once.Do(func() { close(w.closed) })
	return w.Conn.Close()
}

// wireKey is for the context of a dial. It has a **wire, which is where the new one is put.
type wireKey struct{}

// dialer dials for a transport of links.
func dialer(timeout time.Duration) func(context.Context, string, string) (net.Conn, error) {
	d := &net.Dialer{Timeout: timeout, KeepAlive: 15 * time.Second}
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		c, err := d.DialContext(ctx, network, address)
		out, ok := ctx.Value(wireKey{}).(**wire)
		if err != nil || !ok {
			return c, err
		}
		*out = &wire{Conn: c, closed: make(chan struct{})}
		return *out, nil
	}
}

func newLinks(t *http.Transport, at *url.URL, idle time.Duration) *links {
	host, port := at.Hostname(), at.Port()
	if ascii, err := idna.Lookup.ToASCII(host); err == nil {
		host = ascii
	}
	scheme := at.Scheme
	if scheme == "h2c" {
		scheme = "http"
	}
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[scheme]
	}
	p := &links{transport: t, scheme: scheme, address: net.JoinHostPort(host, port), idle: idle,
		all: make(map[*link]struct{})}
	p.http2.Store(at.Scheme == "h2c")
	return p
}

// get returns a connection that has a place for one request, which the caller must use. If own is
// true, nothing was ever sent over it.
func (p *links) get(ctx context.Context, own bool) (*link, error) {
	for !own {
		l, d, mine := p.take()
		switch {
		case l != nil:
			return l, nil
		case d == nil:
			return p.dial(ctx, false)
		case mine:
			l, err := p.dial(ctx, false)
			p.mu.Lock()
			p.dialing, d.err = nil, err
			p.mu.Unlock()
			close(d.done)
			return l, err
		}
		select {
		case <-d.done:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		if d.err != nil && !errors.Is(d.err, context.Canceled) { // the one who dialed may have left
			return nil, d.err
		}
	}
	return p.dial(ctx, true)
}

var errEndedAtOnce = errors.New("the endpoint ends a new connection at once")

// take returns a connection that is there. Otherwise it returns a dial to wait for, or, if mine is
// true, to make for others that wait.
func (p *links) take() (l *link, d *dial, mine bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.free) > 0 {
		l := p.free[len(p.free)-1]
		p.free = p.free[:len(p.free)-1]
		l.inFree = false
		// The endpoint may be about to close one that nobody has used for long.
		late := !l.shared && time.Since(l.since) >= l.idle
		p.mu.Unlock() // what is called now calls note
		ok := !late && l.Reserve() == nil
		switch {
		case late:
			l.Close()
		case ok && l.shared:
			p.note(l)
		}
		p.mu.Lock()
		if ok {
			return l, nil, false
		}
	}
	if p.dialing == nil && p.http2.Load() {
		p.dialing, mine = &dial{done: make(chan struct{})}, true
	}
	return nil, p.dialing, mine
}

// dial makes a connection with a place for one request. If own is true, others get no place before
// that request has ended.
func (p *links) dial(ctx context.Context, own bool) (*link, error) {
	l := &link{idle: p.idle}
	var err error
	l.ClientConn, err = p.transport.NewClientConn(context.WithValue(ctx, wireKey{}, &l.wire), p.scheme, p.address)
	if err != nil {
		return nil, err
	}
	l.shared = l.Available() > 1
	l.wire.shared.Store(l.shared)
	if err := l.Reserve(); err != nil {
		l.Close()
		return nil, fmt.Errorf("%w: %w", errEndedAtOnce, err)
	}
	p.http2.Store(l.shared)
	p.mu.Lock()
	p.all[l] = struct{}{}
	p.mu.Unlock()
	l.SetStateHook(func(*http.ClientConn) { p.note(l) })
	if l.shared && !own {
		p.note(l)
	}
	return l, nil
}

// note is called when more requests may be sent over l, when one has ended, and when l was closed.
func (p *links) note(l *link) {
	places, busy, gone := l.Available(), l.InFlight(), l.Err() != nil
	var extra *link
	p.mu.Lock()
	switch {
	case gone:
		delete(p.all, l)
		if l.inFree {
			p.free = slices.DeleteFunc(p.free, func(f *link) bool { return f == l })
			l.inFree = false
		}
		if l.timer != nil {
			l.timer.Stop()
		}
	case places > 0 && !l.inFree:
		p.free, l.inFree = append(p.free, l), true
		if len(p.free) > idlePerHost {
			extra = p.free[0]
			p.free, extra.inFree = p.free[1:], false
		}
	}
	if !gone && busy == 0 {
		l.since = time.Now()
		if l.timer == nil {
			l.timer = time.AfterFunc(l.idle, func() { p.look(l) })
		}
	}
	p.mu.Unlock()
	if gone {
		l.Close()
	}
	if extra != nil && extra.InFlight() == 0 {
		extra.Close()
	}
}

// look ends l if nobody has used it for long enough.
func (p *links) look(l *link) {
	p.mu.Lock()
	l.timer = nil
	left := l.idle - time.Since(l.since)
	switch {
	case !l.inFree || l.InFlight() > 0: // the end of its request is noted
		p.mu.Unlock()
		return
	case left > 0:
		l.timer = time.AfterFunc(left, func() { p.look(l) })
		p.mu.Unlock()
		return
	}
	p.free = slices.DeleteFunc(p.free, func(f *link) bool { return f == l })
	l.inFree = false
	delete(p.all, l)
	p.mu.Unlock()
	l.Close()
}

// hear takes an endpoint at its word that it closes idle connections earlier than ours.
func (p *links) hear(l *link, h http.Header) {
	for _, v := range h["Keep-Alive"] {
		for _, param := range strings.Split(v, ",") {
			name, value, _ := strings.Cut(strings.TrimSpace(param), "=")
			n, err := strconv.Atoi(strings.TrimSpace(value))
			if err != nil || n < 0 || n > 1<<20 || !strings.EqualFold(name, "timeout") {
				continue
			}
			d := time.Duration(n) * time.Second
			p.mu.Lock()
			if d = min(p.idle, d-min(d/2, time.Second)); d != l.idle {
				if l.idle = d; l.timer != nil {
					l.timer.Reset(d)
				}
			}
			p.mu.Unlock()
		}
	}
}

// close ends all connections.
func (p *links) close() {
	p.mu.Lock()
	all := p.all
	p.all, p.free = make(map[*link]struct{}), nil
	p.mu.Unlock()
	for l := range all {
		l.Close()
	}
}
