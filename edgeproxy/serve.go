package edgeproxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"

	"github.com/lockstep-tls/lockstep/keysource"
)

var (
	errRequest  = errors.New("the request is malformed, or would be for its upstream")
	errPath     = errors.New("the path means different things to different upstreams")
	errFraming  = errors.New("the end of the request is in doubt, and the connection is closed")
	errCutShort = errors.New("the upstream's body ended early")
)

// ServeHTTP answers one request.
func (l *listener) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p := l.proxy
	p.active.Add(1)
	defer p.active.Done()
	if c := http1Of(r); c != nil {
		c.own = false
		c.handled++
	}
	start, e := time.Now(), &entry{status: http.StatusOK}
	r = r.WithContext(context.WithValue(r.Context(), entryKey{}, e))
	rw := newResponse(w, r, e, p.cfg.Timeouts.Body)
	e.body = rw.body
	defer func() {
		aborted := recover()
		if aborted != nil && e.err == nil {
			e.err = errCutShort
		}
		rw.end()
		p.logRequest(r, e, time.Since(start))
		if aborted != nil {
			panic(aborted) // httputil shows the client by this that the body is not whole
		}
	}()
	h, status, err := l.find(r)
	if e.err = err; status != http.StatusOK {
		if errors.Is(err, errFraming) {
			rw.Header().Set("Connection", "close")
			rw.guard.timeout = time.Second // for what net/http still reads
		}
		rw.WriteHeader(status)
		rw.linger()
		return
	}
	e.xfcc = l.clientCert(r)
	rw.allowFullDuplex()
	h.ServeHTTP(rw, r)
}

// find returns the handler of a request with [http.StatusOK], or the status that refuses it.
func (l *listener) find(r *http.Request) (http.Handler, int, error) {
	if err := l.refuses(r); err != nil {
		return nil, http.StatusBadRequest, err
	}
	switch {
	case r.ProtoMajor == 2 && headerSize(r) > l.proxy.cfg.Limits.HeaderBytes+headerSlop:
		return nil, http.StatusRequestHeaderFieldsTooLarge, nil
	case r.Method == http.MethodOptions && r.RequestURI == "*":
		return http.HandlerFunc(general), http.StatusOK, nil
	case l.isHealthCheck(r):
		return http.HandlerFunc(l.health), http.StatusOK, nil
	case l.ofProbeRequest(r):
		return nil, http.StatusMisdirectedRequest, nil
	case r.Method == http.MethodConnect:
		return nil, http.StatusNotImplemented, nil
	case !wellFormed(r):
		return nil, http.StatusBadRequest, errRequest
	case !keepPath(r.URL, r.RequestURI):
		return nil, http.StatusBadRequest, errPath
	}
	host, ok := l.requestHost(r)
	if !ok {
		// A client that shares a connection among hosts comes back on one of its own (RFC 9110,
		// section 15.5.20).
		return nil, http.StatusMisdirectedRequest, nil
	}
	h, err := l.proxy.router.find(host, r.URL)
	switch {
	case err != nil:
		return nil, http.StatusBadRequest, err
	case h == nil:
		return nil, http.StatusNotFound, nil
	}
	return h, http.StatusOK, nil
}

// refuses returns why the length of a request's body is in doubt. What an upstream, or a proxy
// behind this one, takes for the end of the request may then be another place.
func (l *listener) refuses(r *http.Request) error {
	c := http1Of(r)
	if c == nil {
		return nil
	}
	if err := c.framing.refuses(c.handled, r.ContentLength, !r.ProtoAtLeast(1, 1)); err != nil {
		return fmt.Errorf("%w: %w", errFraming, err)
	}
	return nil
}

// headerSlop is what net/http adds to the limit of an HTTP/2 header.
const headerSlop = 320

// headerSize returns the size of the header of an HTTP/2 request (RFC 9113, section 6.5.2).
func headerSize(r *http.Request) int {
	const each, pseudo = 32, 4*32 + len(":method:scheme:authority:pathhttps")
	n := pseudo + len(r.Method) + len(r.Host) + len(r.RequestURI)
	for name, values := range r.Header {
		for _, v := range values {
			n += len(name) + len(v) + each
		}
	}
	return n
}

// general answers OPTIONS * as net/http does.
func general(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Length", "0")
	io.Copy(io.Discard, io.LimitReader(r.Body, 4<<10))
}

// wellFormed refuses what net/http accepts, although an upstream that speaks HTTP/1.1 would read
// another request line: spaces of HTTP/2, and http:path.
func wellFormed(r *http.Request) bool {
	return r.URL.Opaque == "" && (r.URL.Path == "" || r.URL.Path[0] == '/') &&
		!strings.Contains(r.URL.RawQuery, " ") &&
		httpguts.ValidHeaderFieldName(r.Method) // a method is a token
}

// requestHost returns the host for which a request is. It is empty if that is no server name. ok
// is false if the handshake was for another host. A client that sent no server name has the
// certificate of the address to which it connected, or the fallback's. So it may ask for the names
// that this one covers.
func (l *listener) requestHost(r *http.Request) (host keysource.Name, ok bool) {
	name := r.Host
	if h, _, err := net.SplitHostPort(name); err == nil {
		name = h
	}
	host, err := hostName(name)
	if sni := r.TLS.ServerName; sni != "" {
		if sni == name {
			return host, err == nil
		}
		asked, bad := hostName(sni)
		return host, err == nil && bad == nil && asked == host
	}
	if err != nil {
		return "", false
	}
	c, err := l.nameless(r.Context(), localAddr(r))
	return host, err == nil && c.Leaf.VerifyHostname(string(host)) == nil
}
