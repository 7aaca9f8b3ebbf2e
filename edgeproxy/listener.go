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
	"sync/atomic"
	"time"

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
		ReadHeaderTimeout: p.Timeouts.Header,
		IdleTimeout:       p.Timeouts.Idle,
		MaxHeaderBytes:    p.Limits.HeaderBytes,
		HTTP2:             &http.HTTP2Config{MaxConcurrentStreams: p.Limits.Streams},
		ErrorLog:          log.New(&handshakes{p}, "", 0),
		BaseContext:       func(net.Listener) context.Context { return p.requests },
	}
	return out, nil
}

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
		n, err := keysource.ServerName(hello.ServerName)
		if err == nil {
			var c *tls.Certificate
			if c, err = l.proxy.Certificates.Certificate(hello.Context(), n); err == nil {
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
	return l.proxy.Certificates.Certificate(hello.Context(), l.fallback)
}

var errNoName = errors.New("the client sends no server name, and the listener has no fallback")

// may reports whether a session of a server name may be resumed: not where its certificate is gone.
func (l *listener) may(serverName string) bool {
	n, err := keysource.ServerName(serverName)
	return err != nil || !l.proxy.Certificates.Absent(n) // without a name there is the fallback
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

// ServeHTTP answers one request.
func (l *listener) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p := l.proxy
	p.active.Add(1)
	defer p.active.Done()
	start, control := time.Now(), http.NewResponseController(w)
	e := &entry{status: http.StatusOK}
	r = r.WithContext(context.WithValue(r.Context(), entryKey{}, e))
	rw := &response{ResponseWriter: w, entry: e, pace: pace{timeout: p.Timeouts.Body, set: control.SetWriteDeadline}}
	rw.pace.step() // net/http leaves that of the last request in place
	defer func() { p.over(r, e, time.Since(start)) }()
	host, ok := l.agrees(r)
	if !ok {
		// RFC 9110, section 15.5.20: a client that shares a connection among hosts comes back on one of its own.
		rw.WriteHeader(http.StatusMisdirectedRequest)
		return
	}
	h := p.router.find(host, r.URL.Path)
	if h == nil {
		rw.WriteHeader(http.StatusNotFound)
		return
	}
	if r.Body != nil && r.Body != http.NoBody {
		r.Body = &body{r.Body, pace{timeout: p.Timeouts.Body, set: control.SetReadDeadline}}
	}
	h.ServeHTTP(rw, r)
}

// agrees returns the host that a request is for, "" where that is no server name; ok is false where the handshake was for another. A client that sent no server
// name has the fallback certificate: it may ask for what that one covers.
func (l *listener) agrees(r *http.Request) (host keysource.Name, ok bool) {
	name := r.Host
	if h, _, err := net.SplitHostPort(name); err == nil {
		name = h
	}
	host, err := keysource.ServerName(name)
	if sni := r.TLS.ServerName; sni != "" {
		if sni == name {
			return host, err == nil
		}
		asked, bad := keysource.ServerName(sni)
		return host, err == nil && bad == nil && asked == host
	}
	c, err := l.proxy.Certificates.Certificate(r.Context(), l.fallback)
	return host, err == nil && c.Leaf.VerifyHostname(name) == nil
}
