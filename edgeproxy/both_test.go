package edgeproxy

import (
	"crypto/tls"
	"testing"

	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/test/fleet"
)

// serveSecond gives the proxy an RSA certificate beside that of name.
func (r *rig) serveSecond(name string) {
	r.Helper()
	pair, err := r.ca.Issue(fleet.Leaf{Names: []string{name}, RSA: true})
	check(r.TB, err)
	c, err := tls.X509KeyPair(pair.Chain, pair.Key)
	check(r.TB, err)
	r.held.mu.Lock()
	defer r.held.mu.Unlock()
	r.held.certs[keysource.Name(name).Second()] = &c
}

// The client's abilities decide which of two certificates is served, also of a fallback. Sessions
// of both resume.
func TestTheClientsAbilitiesDecideBetweenTwoCertificates(t *testing.T) {
	t.Parallel()
	r := to(t, func(c *Config) { c.Listeners = []Listener{{}, {Fallback: shop}} }, "http://127.0.0.1:1")
	onlyRSA := []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256}
	shake := func(at int, name string, c *tls.Config) (tls.ConnectionState, error) {
		c.ServerName, c.RootCAs = name, r.ca.Pool()
		c.InsecureSkipVerify = name != shop
		conn, err := tls.Dial("tcp", r.addrs[at], c)
		if err != nil {
			return tls.ConnectionState{}, err
		}
		defer conn.Close()
		return conn.ConnectionState(), nil
	}
	if _, err := shake(0, shop, &tls.Config{MaxVersion: tls.VersionTLS12, CipherSuites: onlyRSA}); err == nil {
		t.Error("a client that can do RSA only is served by an ECDSA certificate")
	}
	r.serveSecond(shop)
	for at, names := range [][]string{{shop}, {shop, "", "other.example"}} {
		for _, name := range names {
			for _, c := range []struct {
				kind   string
				client *tls.Config
			}{
				{"RSA", &tls.Config{MaxVersion: tls.VersionTLS12, CipherSuites: onlyRSA}},
				{"ECDSA", &tls.Config{MaxVersion: tls.VersionTLS12}}, {"ECDSA", &tls.Config{}},
			} {
				c.client.ClientSessionCache = tls.NewLRUClientSessionCache(1)
				for try := range 2 {
					s, err := shake(at, name, c.client)
					if err != nil {
						t.Fatal(err)
					}
					if got := s.PeerCertificates[0].PublicKeyAlgorithm.String(); got != c.kind {
						t.Errorf("listener %d, name %q: %s, want %s", at, name, got, c.kind)
					}
					if resumes := s.Version == tls.VersionTLS12 && name == shop; resumes && s.DidResume != (try == 1) {
						t.Errorf("listener %d, name %q, %s: try %d resumed: %v", at, name, c.kind, try, s.DidResume)
					}
				}
			}
		}
	}
}

// What each full handshake costs more.
func BenchmarkTheChoiceOfACertificate(b *testing.B) {
	r := to(b, nil, "http://127.0.0.1:1")
	c, err := r.held.Certificate(b.Context(), shop)
	check(b, err)
	hello := make(chan *tls.ClientHelloInfo, 1)
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{
		GetCertificate: func(h *tls.ClientHelloInfo) (*tls.Certificate, error) { hello <- h; return c, nil },
	})
	check(b, err)
	defer l.Close()
	go func() {
		if conn, err := l.Accept(); err == nil {
			conn.(*tls.Conn).Handshake()
			conn.Close()
		}
	}()
	conn, err := tls.Dial("tcp", l.Addr().String(), &tls.Config{ServerName: shop, RootCAs: r.ca.Pool()})
	check(b, err)
	conn.Close()
	h := <-hello
	for b.Loop() {
		if !supports(h, c) {
			b.Fatal("the client supports it")
		}
	}
}
