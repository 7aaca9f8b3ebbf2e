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
	"sync/atomic"

	"golang.org/x/net/netutil"

	"github.com/lockstep-tls/lockstep/edgeproxy/ticket"
	"github.com/lockstep-tls/lockstep/keysource"
)

// listener is an address with its terms. Each ring makes a new TLS configuration, which is never
// changed. A handshake keeps the one with which it began.
type listener struct {
	Listener
	proxy    *Proxy
	terms    ticket.Terms
	cas      *x509.CertPool
	fallback keysource.Name
	current  atomic.Pointer[tls.Config]
	server   *http.Server
	// addressed is for clients that name no server. unanswered is until when they do not wait for
	// the control plane, in nanoseconds since 1970.
	addressed  atomic.Pointer[byAddress]
	unanswered atomic.Int64
	bare       withoutCertificate
	// balancers are the networks of ProxyProtocol.
	balancers []netip.Prefix
	// forProbes is for handshakes that only probes make. It is nil if there are none.
	forProbes *tls.Config
	ready     atomic.Bool // whether there are ticket keys
}

var noKeys ticket.Keys

func (p *Proxy) newListener(l Listener) (*listener, error) {
	out := &listener{Listener: l, proxy: p, terms: ticket.Terms{Scope: l.Scope}}
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
	out.current.Store(out.config(noKeys)) // there are no tickets before the first real key
	out.addressed.Store(&byAddress{keys: noKeys})
	out.bare.lasts.Store(int64(addressAbsent))
	out.server = &http.Server{
		Handler:           out,
		TLSConfig:         &tls.Config{GetConfigForClient: out.forClient, NextProtos: protocols},
		ReadHeaderTimeout: p.cfg.Timeouts.Header,
		IdleTimeout:       p.cfg.Timeouts.Idle,
		MaxHeaderBytes:    p.cfg.Limits.HeaderBytes,
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams: p.cfg.Limits.Streams,
			MaxReadFrameSize:     frameSize,
			// A client that reads nothing at all is ended by this. No stream of it could be ended
			// otherwise.
			WriteByteTimeout: p.cfg.Timeouts.Body,
		},
		ErrorLog:    log.New(&handshakes{p}, "", 0),
		BaseContext: func(net.Listener) context.Context { return p.requests },
		ConnContext: func(ctx context.Context, _ net.Conn) context.Context {
			return context.WithValue(ctx, keptKey{}, new(atomic.Int64))
		},
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
	if len(l.ProxyProtocol) > 0 || l.ClientCA != "" {
		out.server.ConnContext = connContext
	}
	return out, nil
}

// frameSize bounds what net/http keeps to read frames into, for each HTTP/2 connection. Its
// default is 1 MiB.
const frameSize = 64 << 10

var protocols = []string{"h2", "http/1.1"}

// use takes the keys of a ring.
func (l *listener) use(k ticket.Keys) {
	l.current.Store(l.config(k))
	l.addressed.Store(&byAddress{keys: k})
	l.ready.Store(true)
}

func (l *listener) forClient(hello *tls.ClientHelloInfo) (*tls.Config, error) {
	if hello.ServerName == "" {
		if n := l.addressOf(hello.Context(), hello.Conn.LocalAddr()); n != "" {
			return l.forAddress(n), nil
		}
	}
	if l.ofProbe(hello.Context(), hello.ServerName) {
		return l.forProbes, nil
	}
	return l.current.Load(), nil
}

func (l *listener) config(k ticket.Keys) *tls.Config {
	c := l.withoutKeys()
	k.Install(c, l.terms.ID(), l.mayResume)
	return c
}

// withoutKeys returns a configuration that has no ticket keys yet.
func (l *listener) withoutKeys() *tls.Config {
	c := &tls.Config{
		MinVersion:     tls.VersionTLS12,
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
			if c, err = l.proxy.opts.Certificates.Certificate(hello.Context(), n); err == nil {
				return c, nil
			}
		}
		if l.fallback == "" {
			return nil, err
		}
	}
	if l.fallback == "" {
		return nil, errNoName
	}
	return l.proxy.opts.Certificates.Certificate(hello.Context(), l.fallback)
}

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

// serve answers connections until the server is shut down.
func (l *listener) serve(ln net.Listener) error {
	if l.Connections > 0 {
		ln = netutil.LimitListener(ln, l.Connections)
	}
	if len(l.balancers) > 0 {
		ln = &proxied{ln, l.balancers, l.proxy.cfg.Timeouts.Header}
	}
	if err := l.server.ServeTLS(ln, "", ""); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("%s: %w", l.Address, err)
	}
	return nil
}
