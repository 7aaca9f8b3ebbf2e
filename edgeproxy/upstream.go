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
	"net/url"
	"sync/atomic"
	"time"
)

const (
	failuresMost = 3                // in a row, then the endpoint is out
	outFor       = 10 * time.Second // and gets nothing for so long; then one request may try it
	idlePerHost  = 256              // connections kept to an endpoint
)

// upstream is the endpoints of a route: an [http.RoundTripper] that spreads requests over them and passes over those that fail (passive health).
type upstream struct {
	endpoints []*endpoint
	next      atomic.Uint64
}

type endpoint struct {
	url       *url.URL
	transport http.RoundTripper
	failures  atomic.Int32 // in a row
	out       atomic.Int64 // Unix nanoseconds until which it gets nothing
}

// newUpstream makes the endpoints of r. roots is nil for the system's.
func newUpstream(r Route, roots *x509.CertPool, t Timeouts) (*upstream, error) {
	u := new(upstream)
	plain := transport(t)
	plain.TLSClientConfig = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	plain.ForceAttemptHTTP2 = true
	clear2 := transport(t)
	clear2.Protocols = new(http.Protocols)
	clear2.Protocols.SetUnencryptedHTTP2(true)
	for _, s := range r.Upstreams {
		at, err := endpointURL(s)
		if err != nil {
			return nil, err
		}
		e := &endpoint{url: at, transport: plain}
		if at.Scheme == "h2c" {
			at.Scheme, e.transport = "http", clear2
		}
		u.endpoints = append(u.endpoints, e)
	}
	return u, nil
}

func transport(t Timeouts) *http.Transport {
	return &http.Transport{
		DialContext:           (&net.Dialer{Timeout: t.UpstreamDial, KeepAlive: 15 * time.Second}).DialContext,
		TLSHandshakeTimeout:   t.UpstreamDial,
		ResponseHeaderTimeout: t.UpstreamHeader,
		IdleConnTimeout:       90 * time.Second,
		MaxIdleConnsPerHost:   idlePerHost,
		DisableCompression:    true, // the client's Accept-Encoding counts
		WriteBufferSize:       16 << 10,
		ReadBufferSize:        16 << 10,
	}
}

// close ends idle connections.
func (u *upstream) close() {
	for _, e := range u.endpoints {
		if t, ok := e.transport.(*http.Transport); ok {
			t.CloseIdleConnections()
		}
	}
}

// errNoEndpoint carries the last reason.
var errNoEndpoint = errors.New("no endpoint answers")

// RoundTrip sends req to the endpoint whose turn it is. Where no connection to it comes about, req was not sent, and the next one is tried. The body is the
// caller's to close: it may go on being sent after the response has begun.
func (u *upstream) RoundTrip(req *http.Request) (*http.Response, error) {
	var last error
	first := u.next.Add(1)
	for i := range uint64(len(u.endpoints)) {
		e := u.endpoints[(first+i)%uint64(len(u.endpoints))]
		if e.isOut(time.Now()) && u.anyIn() {
			continue
		}
		out, at := req.WithContext(req.Context()), *req.URL
		at.Scheme, at.Host = e.url.Scheme, e.url.Host
		out.URL = &at
		if req.Body != nil {
			out.Body = io.NopCloser(req.Body) // a transport closes it, also where it has read nothing
		}
		resp, err := e.transport.RoundTrip(out)
		e.note(req.Context(), resp, err)
		if err == nil {
			entryOf(req.Context()).upstream = e.url.Host
			return resp, nil
		}
		last = err
		if !neverSent(err) || req.Context().Err() != nil {
			return nil, fmt.Errorf("%s: %w", e.url.Host, err)
		}
	}
	return nil, fmt.Errorf("%w: %w", errNoEndpoint, last)
}

func (u *upstream) anyIn() bool {
	now := time.Now()
	for _, e := range u.endpoints {
		if !e.isOut(now) {
			return true
		}
	}
	return false
}

func (e *endpoint) isOut(now time.Time) bool { return e.out.Load() > now.UnixNano() }

// note counts what became of a request. What the client ended says nothing of the endpoint.
func (e *endpoint) note(ctx context.Context, resp *http.Response, err error) {
	switch {
	case err == nil && !gatewayFailure(resp.StatusCode):
		e.failures.Store(0)
	case ctx.Err() != nil:
	case e.failures.Add(1) >= failuresMost:
		e.out.Store(time.Now().Add(outFor).UnixNano())
		e.failures.Store(failuresMost - 1) // the first one that tries it again decides
	}
}

// gatewayFailure: the endpoint is a proxy that reaches nothing, or says that it is overloaded.
func gatewayFailure(status int) bool {
	return status == http.StatusBadGateway || status == http.StatusServiceUnavailable || status == http.StatusGatewayTimeout
}

// neverSent reports whether the error came before any connection was there.
func neverSent(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial"
}
