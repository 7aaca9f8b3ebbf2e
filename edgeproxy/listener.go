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
	"os"
	"strings"
	"sync/atomic"

	"golang.org/x/net/netutil"

	"github.com/lockstep-tls/lockstep/edgeproxy/ticket"
	"github.com/lockstep-tls/lockstep/keysource"
)

// listener is an address with its terms. Its TLS configuration is made anew for each ring, and never changed: a handshake keeps the one that it began with.
type listener struct {
	Listener
	proxy    *Proxy
	terms    ticket.Terms
	cas      *x509.CertPool
	fallback keysource.Name
	now      atomic.Pointer[tls.Config]
	server   *http.Server
}

func (p *Proxy) newListener(l Listener) (*listener, error) {
	out := &listener{Listener: l, proxy: p, terms: ticket.Terms{Scope: l.Scope}}
	if l.Fallback != "" {
		out.fallback, _ = keysource.ServerName(l.Fallback) // Config.Check has seen it
	}
	if l.ClientCA != "" {
		pem, err := os.ReadFile(l.ClientCA)
		if err != nil {
			return nil, fmt.Errorf("%w: client_ca: %w", ErrBadConfig, err)
		}
		if out.cas, out.terms.ClientCAs, err = pool(l.ClientCA, pem); err != nil {
			return nil, err
		}
		out.terms.ClientAuth, out.terms.Clients = tls.RequireAndVerifyClientCert, l.ClientNames
	}
	out.now.Store(out.config(ticket.Keys{})) // no ticket before the first real key
	out.server = &http.Server{
		Handler:           out,
		TLSConfig:         &tls.Config{GetConfigForClient: out.forClient, NextProtos: protocols},
		ReadHeaderTimeout: p.cfg.Timeouts.Header,
		IdleTimeout:       p.cfg.Timeouts.Idle,
		MaxHeaderBytes:    p.cfg.Limits.HeaderBytes,
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams: p.cfg.Limits.Streams,
			MaxReadFrameSize:     frameSize,
			WriteByteTimeout:     p.cfg.Timeouts.Body, // a client that reads nothing at all: no stream of it could be ended otherwise
		},
		ErrorLog:    log.New(&handshakes{p}, "", 0),
		BaseContext: func(net.Listener) context.Context { return p.requests },
	}
	return out, nil
}

// frameSize bounds what net/http keeps for each HTTP/2 connection to read frames into (1 MiB unless told).
const frameSize = 64 << 10

var protocols = []string{"h2", "http/1.1"}

// use takes the keys of a ring.
func (l *listener) use(k ticket.Keys) { l.now.Store(l.config(k)) }

func (l *listener) forClient(*tls.ClientHelloInfo) (*tls.Config, error) { return l.now.Load(), nil }

func (l *listener) config(k ticket.Keys) *tls.Config {
	c := &tls.Config{
		MinVersion:     tls.VersionTLS12,
		NextProtos:     protocols,
		GetCertificate: l.certificate,
		ClientAuth:     l.terms.ClientAuth,
		ClientCAs:      l.cas,
		// Not VerifyPeerCertificate, which is not called for a session that is resumed.
		VerifyConnection: l.verify,
	}
	if l.MinVersion == "1.3" {
		c.MinVersion = tls.VersionTLS13
	}
	k.Install(c, l.terms.ID(), l.may)
	return c
}

// certificate finds what to serve for a client's server name, and waits for it where it must be loaded.
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

var errNoName = errors.New("the client sends no server name, and the listener has no fallback")

// may reports whether a session of a server name may be resumed: not where its certificate is gone.
func (l *listener) may(serverName string) bool {
	n, err := hostName(serverName)
	if err != nil {
		return l.fallback != "" // whose certificate it was
	}
	return l.proxy.opts.Certificates.Serves(n)
}

var errPattern = errors.New("it is a pattern, not the name of a host")

// hostName is the name that a client asks for.
func hostName(s string) (keysource.Name, error) {
	n, err := keysource.ServerName(s)
	if err == nil && strings.HasPrefix(string(n), "*.") {
		return "", fmt.Errorf("%q: %w", s, errPattern)
	}
	return n, err
}

// verify is called for every connection, resumed ones too, whose client certificate comes out of the ticket then.
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
	if err := l.server.ServeTLS(ln, "", ""); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("%s: %w", l.Address, err)
	}
	return nil
}
