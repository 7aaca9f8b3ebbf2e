package edgeproxy

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
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
)

// upstream has the endpoints of a route. It is an [http.RoundTripper] that spreads requests over
// them, and leaves out those that fail (passive health).
type upstream struct {
	endpoints []*endpoint
	next      atomic.Uint64
}

type endpoint struct {
	scheme, host string
	http2        bool // HTTP/2 in the clear
	transport    *http.Transport
	health       health
}

// newUpstream makes the endpoints of r. If roots is nil, the system's CAs count.
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
		e := &endpoint{scheme: at.Scheme, host: at.Host, transport: plain}
		if at.Scheme == "h2c" {
			e.scheme, e.http2, e.transport = "http", true, clear2
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
		ExpectContinueTimeout: continueWait,
		IdleConnTimeout:       90 * time.Second,
		MaxIdleConnsPerHost:   idlePerHost,
		DisableCompression:    true, // the client's Accept-Encoding counts
		WriteBufferSize:       16 << 10,
		ReadBufferSize:        16 << 10,
		HTTP2: &http.HTTP2Config{SendPingTimeout: pingAfter, PingTimeout: pingAfter,
			MaxReceiveBufferPerStream: responseWindow},
	}
}

// close ends idle connections.
func (u *upstream) close() {
	for _, e := range u.endpoints {
		e.transport.CloseIdleConnections()
	}
}

// errNoEndpoint wraps the last reason.
var errNoEndpoint = errors.New("no endpoint answers")

// RoundTrip sends req to the endpoint whose turn it is. If no connection to it is made, req was
// not sent, and the next one is tried. Endpoints that are out are tried only if no other is left.
// The caller must close the body, which may still be sent after the response has begun.
func (u *upstream) RoundTrip(req *http.Request) (*http.Response, error) {
	last, tried := error(nil), false
	first, n := u.next.Add(1), uint64(len(u.endpoints))
	for _, out := range []bool{false, true} {
		for i := range n {
			e := u.endpoints[(first+i)%n]
			if !out && !e.health.take(time.Now()) {
				continue
			}
			tried = true
			resp, sent, err := e.roundTrip(req)
			if err == nil {
				entryOf(req.Context()).upstream = e.host
				return resp, nil
			}
			if sent || req.Context().Err() != nil {
				return nil, fmt.Errorf("%s: %w", e.host, err)
			}
			last = err
		}
		if tried {
			break
		}
	}
	return nil, fmt.Errorf("%w: %w", errNoEndpoint, last)
}

// roundTrip sends req to e. sent is false if an error came before there was a connection.
func (e *endpoint) roundTrip(req *http.Request) (resp *http.Response, sent bool, err error) {
	ctx := req.Context()
	var got atomic.Bool
	if e.scheme == "https" { // a handshake fails in many ways, which look like other errors
		ctx = httptrace.WithClientTrace(ctx,
			&httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { got.Store(true) }})
	}
	out, at := req.WithContext(ctx), *req.URL
	at.Scheme, at.Host = e.scheme, e.host
	out.URL = &at
	if req.Body != nil {
		// out is a transport closes the body, even if it has read nothing.
		out.Body = io.NopCloser(req.Body)
	}
	// HTTP/2 has no Upgrade. The endpoint answers as it does without one.
	if e.http2 && out.Header.Get("Upgrade") != "" {
		out.Header = out.Header.Clone()
		out.Header.Del("Upgrade")
		out.Header.Del("Connection")
	}
	resp, err = e.transport.RoundTrip(out)
	// What the client ended says nothing of the endpoint.
	if err == nil || req.Context().Err() == nil && entryOf(ctx).body.failed() == nil {
		e.health.note(time.Now(), err == nil && !gatewayFailure(resp.StatusCode))
	}
	if op := (*net.OpError)(nil); e.scheme == "https" {
		sent = got.Load()
	} else {
		sent = !errors.As(err, &op) || op.Op != "dial"
	}
	return resp, sent, err
}

// gatewayFailure reports whether the endpoint is a proxy that reaches nothing, or says that it is
// overloaded.
func gatewayFailure(status int) bool {
	return status == http.StatusBadGateway || status == http.StatusServiceUnavailable ||
		status == http.StatusGatewayTimeout
}
