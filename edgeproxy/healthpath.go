package edgeproxy

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"math/big"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/lockstep-tls/lockstep/keysource"
)

// checkHealthPath refuses a path that no probe could send, or that sites have themselves.
func checkHealthPath(path string) error {
	switch plain, ok := loosest(path); {
	case path == "/":
		return bad("health_path: / is the front page of every site: take a path that none has, such as /-/healthy")
	case !strings.HasPrefix(path, "/") || !ok || plain != path || strings.ContainsAny(path, "?#% "):
		return bad("health_path: %q is no plain path, such as /-/healthy", path)
	}
	return nil
}

// isHealthCheck reports whether a request is a balancer's health check. Balancers send an address
// as the host, or none, by HTTP/1.0 as well. Their handshakes name no server, or any.
func (l *listener) isHealthCheck(r *http.Request) bool {
	if l.HealthPath == "" || r.URL.EscapedPath() != l.HealthPath {
		return false
	}
	return r.Method == http.MethodGet || r.Method == http.MethodHead || r.Method == http.MethodOptions
}

// health answers health checks. The listener is well once it has ticket keys, as with /readyz.
func (l *listener) health(w http.ResponseWriter, r *http.Request) {
	entryOf(r.Context()).quiet = true
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	if !l.ready.Load() {
		w.WriteHeader(http.StatusServiceUnavailable)
		io.WriteString(w, "there are no ticket keys yet\n")
		return
	}
	io.WriteString(w, "ok\n")
}

// ofProbe reports whether a handshake with that server name is one that only a probe makes. The
// listener has no certificate for it, and would refuse it if there were no health path. Nothing but
// the health path is served on such a connection. An address to which a client without a server
// name connected has no certificate here.
func (l *listener) ofProbe(ctx context.Context, serverName string) bool {
	if l.HealthPath == "" || l.Fallback != "" {
		return false
	}
	if serverName == "" {
		return true
	}
	addr, err := netip.ParseAddr(serverName) // some send the address, which is no server name
	return err == nil && !l.certified(ctx, keysource.AddressName(addr))
}

// ofProbeRequest reports whether a request came on the connection of a probe. A client's connection
// has a client certificate where the listener asks for one.
func (l *listener) ofProbeRequest(r *http.Request) bool {
	if l.HealthPath == "" || l.Fallback != "" {
		return false
	}
	if name := r.TLS.ServerName; name != "" {
		if _, err := netip.ParseAddr(name); err != nil {
			return false
		}
	}
	if l.cas != nil && len(r.TLS.PeerCertificates) == 0 {
		return true
	}
	if r.TLS.ServerName == "" && l.addressOf(r.Context(), localAddr(r)) != "" {
		return false
	}
	return l.ofProbe(r.Context(), r.TLS.ServerName)
}

// probed returns the configurations of such handshakes. Probes look at no certificate, so they get
// one that nobody has signed. Probes have no certificate either.
func (l *listener) probed() (*configs, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "lockstep-edge, for health checks only"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(10, 0, 0),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	own := []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}
	config := func(protocols []string) *tls.Config {
		c := l.config(noKeys, protocols)
		c.Certificates, c.GetCertificate = own, nil
		c.ClientAuth, c.ClientCAs = tls.NoClientCert, nil
		c.VerifyConnection = func(cs tls.ConnectionState) error {
			l.proxy.metrics.handshake(cs.DidResume)
			return nil
		}
		return c
	}
	a := choice{config(protocols), config(nil)}
	return &configs{usual: a, early: a}, nil
}
