package probe

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
)

const host = "shop.example"

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// certify makes a self-signed certificate for host, and the pool that trusts it.
func certify(t *testing.T) (tls.Certificate, *x509.CertPool) { return certifyBy(t, "") }

// certifyBy issues to itself under that name.
func certifyBy(t *testing.T, issuer string) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{host},
		Subject:  pkix.Name{CommonName: issuer},
		NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, pool
}

// serve starts a TLS node with a ticket key of its own choice; full counts its full handshakes.
func serve(t *testing.T, cert tls.Certificate, key byte, change func(*tls.Config)) (addr string, full *atomic.Int64) {
	t.Helper()
	full = new(atomic.Int64)
	c := &tls.Config{Certificates: []tls.Certificate{cert}}
	c.VerifyConnection = func(s tls.ConnectionState) error {
		if !s.DidResume {
			full.Add(1)
		}
		return nil
	}
	if change != nil {
		change(c)
	}
	c.SetSessionTicketKeys([][32]byte{{key}})
	s := httptest.NewUnstartedServer(http.NotFoundHandler())
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.TLS = c
	s.StartTLS()
	t.Cleanup(s.Close)
	return s.Listener.Addr().String(), full
}

func versions(t *testing.T, run func(t *testing.T, version uint16)) {
	for _, v := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		t.Run(tls.VersionName(v), func(t *testing.T) { run(t, v) })
	}
}

func TestSessionResumesWhereKeysAreShared(t *testing.T) {
	cert, pool := certify(t)
	a, _ := serve(t, cert, 1, nil)
	b, fullB := serve(t, cert, 1, nil)
	other, _ := serve(t, cert, 2, nil)
	versions(t, func(t *testing.T, v uint16) {
		fullB.Store(0)
		c := Config{SNI: host, RootCAs: pool, Versions: []uint16{v}}
		first, err := Dial(t.Context(), a, c, nil)
		if err != nil {
			t.Fatal(err)
		}
		if first.Resumed || first.Session == nil || first.Session.Version != v || len(first.Session.KeyID) != 16 ||
			time.Since(first.Session.Issued) > time.Minute {
			t.Fatalf("first connection: %+v with session %+v", first, first.Session)
		}
		for range 3 { // the same session again and again: what comes back must not take its place
			r, err := Dial(t.Context(), b, c, first.Session)
			if err != nil || !r.Resumed {
				t.Fatalf("at the node that shares the key: resumed %v, %v", r.Resumed, err)
			}
		}
		if n := fullB.Load(); n != 0 {
			t.Errorf("the node counted %d full handshakes", n)
		}
		r, err := Dial(t.Context(), other, c, first.Session)
		if err != nil || r.Resumed || r.Session == nil {
			t.Fatalf("at a node with another key: %+v, %v; want a full handshake with a new session", r, err)
		}
	})
}

func TestVerifyShowsWhoDoesNotResume(t *testing.T) {
	cert, pool := certify(t)
	a, _ := serve(t, cert, 1, nil)
	b, _ := serve(t, cert, 1, nil)
	odd, _ := serve(t, cert, 2, nil)
	c := Config{Addrs: []string{a, b, odd}, SNI: host, RootCAs: pool}
	m, err := Verify(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	if len(m.Pairs) != 2*3*3 || m.Sampled || m.OK() {
		t.Fatalf("%d pairs, sampled %v, ok %v; want 18, false, false", len(m.Pairs), m.Sampled, m.OK())
	}
	for _, p := range m.Pairs {
		want := Full
		if (p.From == odd) == (p.To == odd) {
			want = Resumed
		}
		if p.Outcome != want || p.Words != "" || p.Took <= 0 {
			t.Errorf("%s %s to %s: %s %q in %v, want %s", tls.VersionName(p.Version), p.From, p.To, p.Outcome, p.Words,
				p.Took, want)
		}
	}
	c.Addrs = []string{a, b}
	if m, err = Verify(t.Context(), c); err != nil || !m.OK() {
		t.Errorf("two nodes that share a key: %+v, %v", m, err)
	}
	js, err := json.Marshal(m)
	if err != nil || !strings.Contains(string(js),
		`{"version":"TLS 1.2","from":"`+a+`","to":"`+a+`","outcome":"resumed","took_ms":`) {
		t.Errorf("as JSON: %s, %v", js, err)
	}
}

func TestVerifyNamesTheFailure(t *testing.T) {
	cert, pool := certify(t)
	good, _ := serve(t, cert, 1, nil)
	noTickets, _ := serve(t, cert, 1, func(c *tls.Config) { c.SessionTicketsDisabled = true })
	private, _ := serve(t, cert, 1, func(c *tls.Config) { c.ClientAuth = tls.RequireAnyClientCert })
	silent := httptest.NewUnstartedServer(nil) // accepts in the backlog, and says nothing
	t.Cleanup(func() { silent.Listener.Close() })

	for _, test := range []struct {
		name, addr, words string
		sni               string
	}{
		{"no tickets", noTickets, "gave no session ticket", host},
		{"client certificate asked for", private, "certificate required", host},
		{"nobody answers", silent.Listener.Addr().String(), "TLS handshake with " + silent.Listener.Addr().String(),
			host},
		{"nobody listens", "127.0.0.1:1", "127.0.0.1:1: connect: connection refused", host},
		{"another certificate", good, "certificate is valid for shop.example, not bank.example", "bank.example"},
	} {
		t.Run(test.name, func(t *testing.T) {
			m, err := Verify(t.Context(), Config{Addrs: []string{test.addr}, SNI: test.sni, RootCAs: pool,
				Versions: []uint16{tls.VersionTLS13}, Timeout: 300 * time.Millisecond})
			if err != nil || len(m.Pairs) != 1 || m.OK() {
				t.Fatalf("%+v, %v", m, err)
			}
			if p := m.Pairs[0]; p.Outcome != Failed || !strings.Contains(p.Words, test.words) {
				t.Errorf("%s %q, want %q in it", p.Outcome, p.Words, test.words)
			}
		})
	}
	if _, err := Dial(t.Context(), good, Config{SNI: "bank.example", Insecure: true}, nil); err != nil {
		t.Errorf("insecure: %v", err)
	}
}

func TestVerifyGoesBehindAHeaderOfTheProxyProtocol(t *testing.T) {
	cert, pool := certify(t)
	good, _ := serve(t, cert, 1, nil)
	for demanded := range proxyHeaders {
		addr := demandingProxies(t, demanded, good)
		for sent := range 3 {
			m, err := Verify(t.Context(), Config{Addrs: []string{addr}, SNI: host, RootCAs: pool, ProxyProtocol: sent})
			if err != nil || m.OK() != (sent == demanded) {
				t.Errorf("version %d is demanded, %d is sent: %+v, %v", demanded, sent, m, err)
			}
		}
	}
}

func TestVerifyRefusesBadConfig(t *testing.T) {
	for _, c := range []Config{
		{SNI: host},
		{Addrs: []string{"127.0.0.1:1"}},
		{Addrs: []string{"127.0.0.1:1"}, SNI: host, Versions: []uint16{tls.VersionTLS11}},
		{Addrs: []string{"127.0.0.1:1"}, SNI: host, ProxyProtocol: 3},
	} {
		if _, err := Verify(t.Context(), c); !errors.Is(err, ErrBadConfig) {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

func TestVerifyEndsWithItsContext(t *testing.T) {
	silent := httptest.NewUnstartedServer(nil)
	defer silent.Listener.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	start := time.Now()
	_, err := Verify(ctx, Config{Addrs: slices.Repeat([]string{silent.Listener.Addr().String()}, 5), SNI: host})
	if !errors.Is(err, context.DeadlineExceeded) || time.Since(start) > 2*time.Second {
		t.Errorf("%v after %v", err, time.Since(start))
	}
}

func TestSampleTriesEveryNodeAlike(t *testing.T) {
	for _, test := range []struct{ n, each int }{{1, 1}, {3, 3}, {20, 20}, {21, 19}, {40, 10}, {200, 2}, {400, 1},
		{1000, 1}} {
		t.Run(fmt.Sprint(test.n), func(t *testing.T) {
			if got := min(test.n, max(1, defaultMaxPairs/test.n)); got != test.each {
				t.Fatalf("%d targets for each source, want %d", got, test.each)
			}
			hits := make([]int, test.n)
			for i := range test.n {
				ts := targets(i, test.each, test.n)
				if len(slices.Compact(slices.Clone(ts))) != test.each {
					t.Fatalf("source %d: %v has doubles", i, ts)
				}
				if test.each < test.n && slices.Contains(ts, i) {
					t.Fatalf("source %d tries itself in a sample", i)
				}
				for _, j := range ts {
					hits[j]++
				}
			}
			if slices.Min(hits) != test.each || slices.Max(hits) != test.each {
				t.Errorf("each node should be tried %d times: %v", test.each, hits)
			}
		})
	}
}
