package edgeproxy

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"slices"
	"sync/atomic"
	"time"
)

const (
	idlePerHost = 256 // idle connections that are kept to an endpoint
	// pingAfter is how long an HTTP/2 connection to an endpoint may be silent before it is pinged.
	// It is given up if nothing comes back for as long again.
	pingAfter = 15 * time.Second
	// continueWait is how long an endpoint may take to ask for the body of a request that expects
	// this.
	continueWait = time.Second
	// responseWindow is how much of a response an HTTP/2 endpoint may send before the client reads
	// it, for each stream. The default of net/http is 4 MiB. The window of a connection stays as
	// large as it can be: clients share it, and one that reads nothing would stop the others.
	responseWindow = 128 << 10
	// closeNotify is more than the last record of TLS, and less than any request is in TLS.
	closeNotify = 48
)

// upstream has the endpoints of a route. It is an [http.RoundTripper] that spreads requests over
// them, and leaves out those that fail (passive health).
type upstream struct {
	endpoints []*endpoint
	timeouts  Timeouts // of the route
	next      atomic.Uint64
}

type endpoint struct {
	host    string
	http2   bool // HTTP/2 in the clear
	links   *links
	goodbye int64 // how much is written over a connection on which nothing is sent
	// patience is how long the endpoint may take neither more of a body nor answer.
	patience time.Duration
	alone    bool // the route has no other endpoint
	health   health
}

// silence is an error of an endpoint that takes too long.
type silence string

func (s silence) Error() string { return string(s) }

// Timeout is that of [net.Error].
func (silence) Timeout() bool { return true }

// Temporary is that of [net.Error].
func (silence) Temporary() bool { return false }

const errTakesNothing silence = "the upstream takes no more of the request's body, and does not answer"

// newUpstream makes the endpoints of r, whose number is i. It reads the files that r names.
func newUpstream(r Route, i int, t Timeouts) (*upstream, error) {
	roots, err := r.roots(i)
	if err != nil {
		return nil, err
	}
	own, err := r.pair(i)
	if err != nil {
		return nil, err
	}
	u := &upstream{timeouts: r.timeouts(t)}
	t = u.timeouts
	plain := transport(t)
	// If RootCAs is nil, the system's CAs count.
	plain.TLSClientConfig = &tls.Config{RootCAs: roots, ServerName: r.UpstreamName, MinVersion: tls.VersionTLS12}
	if own != nil {
		shown := &pair{cert: r.UpstreamCert, key: r.UpstreamKey, good: own}
		plain.TLSClientConfig.GetClientCertificate = shown.get
	}
	plain.ForceAttemptHTTP2 = true
	clear2 := transport(t)
	clear2.Protocols = new(http.Protocols)
	clear2.Protocols.SetUnencryptedHTTP2(true)
	for _, s := range r.Upstreams {
		at, err := endpointURL(s)
		if err != nil {
			return nil, err
		}
		e := &endpoint{host: at.Host, links: newLinks(plain, at, t.UpstreamIdle), patience: t.UpstreamHeader,
			alone: len(r.Upstreams) == 1}
		switch at.Scheme {
		case "h2c":
			e.http2, e.links.transport = true, clear2
		case "https":
			e.goodbye = closeNotify
		}
		u.endpoints = append(u.endpoints, e)
	}
	return u, nil
}

func transport(t Timeouts) *http.Transport {
	return &http.Transport{
		DialContext:           dialer(t.UpstreamDial),
		TLSHandshakeTimeout:   t.UpstreamDial,
		ResponseHeaderTimeout: t.UpstreamHeader,
		ExpectContinueTimeout: continueWait,
		IdleConnTimeout:       t.UpstreamIdle,
		MaxIdleConnsPerHost:   idlePerHost,
		DisableCompression:    true, // the client's Accept-Encoding counts
		WriteBufferSize:       16 << 10,
		ReadBufferSize:        16 << 10,
		HTTP2: &http.HTTP2Config{SendPingTimeout: pingAfter, PingTimeout: pingAfter,
			MaxReceiveBufferPerStream: responseWindow},
	}
}

// close ends the connections.
func (u *upstream) close() {
	for _, e := range u.endpoints {
		e.links.close()
		e.links.transport.CloseIdleConnections()
	}
}

// errNoEndpoint wraps the last reason.
var errNoEndpoint = errors.New("no endpoint answers")

// RoundTrip sends req to the endpoint whose turn it is. It goes to the next one if it may be sent
// again. Endpoints that are out are tried only if no other is left. The caller must close the
// body, which may still be sent after the response has begun.
func (u *upstream) RoundTrip(req *http.Request) (*http.Response, error) {
	body := newUpload(req)
	last, tried := error(nil), false
	first, n := u.next.Add(1), uint64(len(u.endpoints))
	for _, out := range []bool{false, true} {
		for i := range n {
			e := u.endpoints[(first+i)%n]
			if !out && !e.health.take(time.Now()) {
				continue
			}
			tried = true
			resp, again, err := e.roundTrip(req, body)
			if err == nil {
				entryOf(req.Context()).upstream = e.host
				return resp, nil
			}
			if !again || req.Context().Err() != nil {
				body.settle(nil)
				return nil, fmt.Errorf("%s: %w", e.host, err)
			}
			last = err
		}
		if tried {
			break
		}
	}
	body.settle(nil)
	return nil, fmt.Errorf("%w: %w", errNoEndpoint, last)
}

// roundTrip sends req to e, once or over several connections. again is true if it failed, and may
// be sent to another endpoint.
func (e *endpoint) roundTrip(req *http.Request, body *upload) (resp *http.Response, again bool, err error) {
	out, at := req.WithContext(req.Context()), *req.URL
	at.Scheme, at.Host = e.links.scheme, e.host
	out.URL = &at
	if up := out.Header.Get("Upgrade"); up != "" && !e.http2 {
		return e.upgrade(out)
	} else if up != "" {
		// HTTP/2 has no Upgrade. The endpoint answers as it does without one.
		out.Header = out.Header.Clone()
		out.Header.Del("Upgrade")
		out.Header.Del("Connection")
	}
	own := false
	for try := 1; ; try++ {
		l, err := e.links.get(req.Context(), own)
		if errors.Is(err, errEndedAtOnce) && e.alone && try < unsentTries && pause(req.Context(), try) {
			continue
		}
		if err != nil {
			e.note(req, false)
			return nil, true, hint(err)
		}
		fresh, sent := !l.used.Swap(true), l.wire.sent.Load()
		var r *reading
		if body != nil {
			// The request's own context ends this one. A response's body needs it until then.
			ctx, cancel := context.WithCancelCause(req.Context())
			r = body.read(l.wire.closed, e.patience, func() { cancel(errTakesNothing) })
			out = out.WithContext(ctx)
			out.Body = r
		}
		if resp, err = l.RoundTrip(out); err == nil {
			body.settle(r)
			e.links.hear(l, resp.Header)
			e.note(req, !gatewayFailure(resp.StatusCode))
			return resp, false, nil
		}
		if r != nil {
			r.Close()
		}
		what := outcomeOf(err)
		if r != nil && r.guard.hasCut() {
			what, err = silent, errTakesNothing
		}
		if what == lost && l.wire.sent.Load()-sent <= e.goodbye {
			what = unsent
		}
		maybeDone := what == lost || what == broken
		switch {
		case what == malformed || req.Context().Err() != nil || entryOf(req.Context()).body.failed() != nil:
			return nil, false, err // this says nothing of the endpoint
		case what == silent:
			e.note(req, false)
			return nil, false, err
		case maybeDone && !idempotent(req.Method):
			if fresh && what == lost { // otherwise the connection was idle for too long
				e.note(req, false)
			}
			return nil, false, err
		case !body.again():
			return nil, false, fmt.Errorf("%w (more than %d KiB were sent, so it is not sent again)", err,
				replayable>>10)
		case what == unsent && e.alone && try < unsentTries:
			// An endpoint that is just being replaced takes connections and ends them.
			if !pause(req.Context(), try) {
				return nil, false, err
			}
		case own || fresh && maybeDone:
			if what != broken {
				e.note(req, false)
			}
			return nil, true, err
		}
		own = what != unsent || try > 1
	}
}

// unsentTries is how often a request is sent to a lone endpoint that does not look at it. The
// pauses in between are 1, 4, 16, 64 and 256 ms.
const unsentTries = 6

// pause waits after a try. It returns false if ctx ends before.
func pause(ctx context.Context, try int) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(time.Millisecond << (2*try - 2)):
		return true
	}
}

// hint says what to do about a certificate that has another name.
func hint(err error) error {
	var name x509.HostnameError
	if !errors.As(err, &name) {
		return err
	}
	all := slices.Clone(name.Certificate.DNSNames) // a URI is no name of a server
	for _, ip := range name.Certificate.IPAddresses {
		all = append(all, ip.String())
	}
	if len(all) == 0 {
		return fmt.Errorf("%w: it has no DNS name and no address: have it issued with one", err)
	}
	return fmt.Errorf("%w: give one of its names %.200q to the route as upstream_name", err, all)
}

// note counts the outcome of a request, unless it is the client's doing.
func (e *endpoint) note(req *http.Request, ok bool) {
	if ctx := req.Context(); ok || ctx.Err() == nil && entryOf(ctx).body.failed() == nil {
		e.health.note(time.Now(), ok)
	}
}

// upgrade sends a request after which the connection is something else (WebSocket). The transport
// chooses HTTP/1.1 for it.
func (e *endpoint) upgrade(req *http.Request) (resp *http.Response, again bool, err error) {
	ctx := req.Context()
	var got atomic.Bool
	if e.links.scheme == "https" { // a handshake fails in many ways, which look like other errors
		ctx = httptrace.WithClientTrace(ctx,
			&httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { got.Store(true) }})
	}
	out := req.WithContext(ctx)
	if req.Body != nil {
		// A transport closes the body, even if it has read nothing.
		out.Body = io.NopCloser(req.Body)
	}
	if resp, err = e.links.transport.RoundTrip(out); err == nil {
		e.note(req, !gatewayFailure(resp.StatusCode))
		return resp, false, nil
	}
	if outcomeOf(err) != malformed {
		e.note(req, false)
	}
	if op := (*net.OpError)(nil); e.links.scheme == "https" {
		again = !got.Load()
	} else {
		again = errors.As(err, &op) && op.Op == "dial"
	}
	return nil, again, err
}

// gatewayFailure reports whether the endpoint is a proxy that reaches nothing, or says that it is
// overloaded.
func gatewayFailure(status int) bool {
	return status == http.StatusBadGateway || status == http.StatusServiceUnavailable ||
		status == http.StatusGatewayTimeout
}
