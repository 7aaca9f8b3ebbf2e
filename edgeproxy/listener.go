package edgeproxy

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/net/netutil"

	"github.com/lockstep-tls/lockstep/edgeproxy/ticket"
	"github.com/lockstep-tls/lockstep/keysource"
)

// listener is an address with its terms. Each ring makes new TLS configurations, which are never
// changed. A handshake keeps the one with which it began.
type listener struct {
	Listener
	proxy    *Proxy
	terms    ticket.Terms
	cas      *x509.CertPool
	fallback keysource.Name
	current  atomic.Pointer[configs]
	tls      *tls.Config // tls is what a handshake begins with.
	// http1 and http2 are the servers of the two versions of HTTP.
	http1, http2 *http.Server

	front         net.Listener   // front accepts connections. It is set before serve is called.
	accepted      chan struct{}  // accepted is closed when no more are accepted.
	handshakes    sync.WaitGroup // handshakes that go on
	handshaking   context.Context
	endHandshakes context.CancelFunc
	// addressed is for clients that name no server. unanswered is until when they do not wait for
	// the control plane, in nanoseconds since 1970.
	addressed  atomic.Pointer[byAddress]
	unanswered atomic.Int64
	bare       withoutCertificate
	// balancers are the networks of ProxyProtocol.
	balancers []netip.Prefix
	// forProbes is for handshakes that only probes make. It is nil if there are none.
	forProbes *configs
	ready     atomic.Bool // whether there are ticket keys
}

var noKeys ticket.Keys

func (p *Proxy) newListener(l Listener) (*listener, error) {
	out := &listener{Listener: l, proxy: p, terms: ticket.Terms{Scope: l.Scope}, accepted: make(chan struct{})}
	out.handshaking, out.endHandshakes = context.WithCancel(p.requests)
	if l.Fallback != "" {
		out.fallback, _ = keysource.ServerName(l.Fallback) // Config.Check has checked it
	}
	if l.ClientCA != "" {
		var err error
		if out.cas, out.terms.ClientCAs, err = l.clientCAs(); err != nil {
			return nil, err
		}
		out.terms.ClientAuth, out.terms.Clients = tls.RequireAndVerifyClientCert, l.ClientNames
	}
	out.current.Store(out.configs(noKeys)) // there are no tickets before the first real key
	out.addressed.Store(&byAddress{keys: noKeys})
	out.bare.lasts.Store(int64(addressAbsent))
	out.tls = &tls.Config{GetConfigForClient: out.forClient, NextProtos: protocols}
	out.http1, out.http2 = out.server(), out.server()
	out.http1.Protocols.SetHTTP1(true)
	out.http1.ConnState = connState
	out.http2.Protocols.SetHTTP2(true)
	// What is larger than HeaderBytes is refused by the handler, so that it is logged.
	out.http2.MaxHeaderBytes *= 2
	out.http2.HTTP2 = &http.HTTP2Config{
		MaxConcurrentStreams: p.cfg.Limits.Streams,
		MaxReadFrameSize:     frameSize,
		// A client that reads nothing at all is ended by this. No stream of it could be ended
		// otherwise.
		WriteByteTimeout: p.cfg.Timeouts.Body,
		CountError:       p.countError,
	}
	if l.HealthPath != "" && l.Fallback == "" {
		var err error
		if out.forProbes, err = out.probed(); err != nil {
			return nil, err
		}
	}
	if len(l.ProxyProtocol) > 0 {
		var err error
		if out.balancers, err = Networks("proxy_protocol", l.ProxyProtocol); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// server returns a server without protocols.
func (l *listener) server() *http.Server {
	return &http.Server{
		Handler:                      l,
		Protocols:                    new(http.Protocols),
		DisableGeneralOptionsHandler: true, // it is answered here, so that it is logged
		ReadHeaderTimeout:            l.proxy.cfg.Timeouts.Header,
		IdleTimeout:                  l.proxy.cfg.Timeouts.Idle,
		MaxHeaderBytes:               l.proxy.cfg.Limits.HeaderBytes,
		ErrorLog:                     log.New(l.proxy.complaints, "", 0),
		BaseContext:                  func(net.Listener) context.Context { return l.proxy.requests },
		ConnContext:                  connContext,
	}
}

// frameSize bounds what net/http keeps to read frames into, for each HTTP/2 connection. Its
// default is 1 MiB.
const frameSize = 64 << 10

// use takes the keys of a ring.
func (l *listener) use(k ticket.Keys) {
	l.current.Store(l.configs(k))
	l.addressed.Store(&byAddress{keys: k})
	l.ready.Store(true)
}

// config returns a configuration with the keys of a ring. It speaks protocols, or none by name.
func (l *listener) config(k ticket.Keys, protocols []string) *tls.Config {
	c := l.withoutKeys(protocols)
	k.Install(c, l.terms.ID(), l.mayResume)
	return c
}

// withoutKeys returns a configuration that has no ticket keys yet.
func (l *listener) withoutKeys(protocols []string) *tls.Config {
	c := &tls.Config{
		MinVersion:     tls.VersionTLS12,
		CipherSuites:   suites,
		NextProtos:     protocols,
		GetCertificate: l.certificate,
		ClientAuth:     l.terms.ClientAuth,
		ClientCAs:      l.cas,
		// VerifyPeerCertificate is not called for a session that is resumed, VerifyConnection is.
		VerifyConnection: l.verify,
	}
	if l.MinVersion == "1.3" {
		c.MinVersion = tls.VersionTLS13
	}
	return c
}

// certificate returns what to serve for a client's server name. It waits if that must be loaded.
func (l *listener) certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	if hello.ServerName != "" {
		n, err := hostName(hello.ServerName)
		if err == nil {
			var c *tls.Certificate
			if c, err = l.bestOf(hello, n); err == nil {
				return c, nil
			}
		}
		if l.fallback == "" {
			return nil, noCertificate{err}
		}
	}
	if l.fallback == "" {
		return nil, errNoName
	}
	c, err := l.bestOf(hello, l.fallback)
	if err != nil {
		return nil, noCertificate{err}
	}
	return c, nil
}

// bestOf returns the certificate of n that the client can use. The second one of n is loaded when
// the first client comes that cannot use the first one. If there is none, the client gets the
// first one, and ends the handshake.
func (l *listener) bestOf(hello *tls.ClientHelloInfo, n keysource.Name) (*tls.Certificate, error) {
	first, err := l.proxy.opts.Certificates.Certificate(hello.Context(), n)
	if err != nil || supports(hello, first) {
		return first, err
	}
	second, err := l.proxy.opts.Certificates.Certificate(hello.Context(), n.Second())
	if err != nil || !supports(hello, second) {
		return first, nil
	}
	return second, nil
}

// supports reports whether the client can use c. Whether c is for the name that the client asks for
// does not count, since c may be the fallback.
func supports(hello *tls.ClientHelloInfo, c *tls.Certificate) bool {
	unnamed := *hello
	unnamed.ServerName = ""
	return unnamed.SupportsCertificate(c) == nil
}

// noCertificate is why there is none for a handshake.
type noCertificate struct{ error }

func (n noCertificate) Unwrap() error { return n.error }

var errNoName = errors.New("the client sends no server name, and the listener has no fallback, nor a certificate " +
	"for its address")

// mayResume reports whether a session of a server name may be resumed. It may not if its
// certificate is gone.
func (l *listener) mayResume(serverName string) bool {
	n, err := hostName(serverName)
	if err != nil {
		return l.fallback != "" // it was the fallback's certificate
	}
	return l.proxy.opts.Certificates.Serves(n)
}

var errPattern = errors.New("it is a pattern, not the name of a host")

// hostName returns the name for which a client asks.
func hostName(s string) (keysource.Name, error) {
	n, err := keysource.ServerName(s)
	if err == nil && strings.HasPrefix(string(n), "*.") {
		return "", fmt.Errorf("%q: %w", s, errPattern)
	}
	return n, err
}

// verify is called for every connection. The client certificate of a resumed one comes from its
// ticket.
func (l *listener) verify(cs tls.ConnectionState) error {
	l.proxy.metrics.handshake(cs.DidResume)
	if len(l.ClientNames) == 0 {
		return nil
	}
	if len(cs.PeerCertificates) == 0 {
		return errNoClient
	}
	if !allowed(l.ClientNames, cs.PeerCertificates[0]) {
		return fmt.Errorf("%w: %.200q", errClient, names(cs.PeerCertificates[0]))
	}
	return nil
}

// open takes what connections come from.
func (l *listener) open(ln net.Listener) {
	if l.Connections > 0 {
		ln = netutil.LimitListener(ln, l.Connections)
	}
	if len(l.balancers) > 0 {
		ln = &proxied{ln, l.balancers, l.proxy.cfg.Timeouts.Header}
	}
	l.front = ln
}
