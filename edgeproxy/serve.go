package edgeproxy

import (
	"context"
	"errors"
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
	errCutShort = errors.New("the upstream's body ended early")
)

// ServeHTTP answers one request.
func (l *listener) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p := l.proxy
	p.active.Add(1)
	defer p.active.Done()
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
		p.over(r, e, time.Since(start))
		if aborted != nil {
			panic(aborted) // httputil's way to make the client see that the body is not whole
		}
	}()
	h, status, err := l.find(r)
	if e.err = err; status != http.StatusOK {
		rw.WriteHeader(status)
		return
	}
	rw.converse()
	h.ServeHTTP(rw, r)
}

// find returns the handler of a request with [http.StatusOK], or the status that refuses it.
func (l *listener) find(r *http.Request) (http.Handler, int, error) {
	switch {
	case r.Method == http.MethodConnect:
		return nil, http.StatusNotImplemented, nil
	case !sound(r):
		return nil, http.StatusBadRequest, errRequest
	}
	host, ok := l.agrees(r)
	if !ok {
		// RFC 9110, section 15.5.20: a client that shares a connection among hosts comes back on one of its own.
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

// sound refuses what net/http lets through though an upstream that speaks HTTP/1.1 would read another request line: spaces of HTTP/2, and http:path.
func sound(r *http.Request) bool {
	return r.URL.Opaque == "" && (r.URL.Path == "" || r.URL.Path[0] == '/') && !strings.Contains(r.URL.RawQuery, " ") &&
		httpguts.ValidHeaderFieldName(r.Method) // a token, as a method is
}

// agrees returns the host that a request is for, "" where that is no server name; ok is false where the handshake was for another. A client that
// sent no server name has the fallback certificate: it may ask for what that one covers.
func (l *listener) agrees(r *http.Request) (host keysource.Name, ok bool) {
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
	c, err := l.proxy.opts.Certificates.Certificate(r.Context(), l.fallback)
	return host, err == nil && c.Leaf.VerifyHostname(name) == nil
}
