package edgeproxy

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

const loopback = "127.0.0.1"

// nameless connects to a listener without a server name, and checks the certificate for the
// address that it has to be for.
func (r *rig) nameless(at int, address string, change func(*tls.Config)) (*tls.Conn, error) {
	c := &tls.Config{InsecureSkipVerify: true, VerifyConnection: func(cs tls.ConnectionState) error {
		_, err := cs.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: r.ca.Pool(), DNSName: address})
		return err
	}}
	if change != nil {
		change(c)
	}
	return tls.Dial("tcp", r.addrs[at], c)
}

// findAtOnce makes the listeners forget at once which addresses have no certificate.
func (r *rig) findAtOnce() {
	for _, l := range r.proxy.listeners {
		l.bare.lasts.Store(0)
	}
}

func TestAnAddressWithoutACertificateIsAskedForOnce(t *testing.T) {
	t.Parallel()
	r := to(t, func(c *Config) { c.Listeners = []Listener{{Fallback: shop}} }, origin(t, "http", seen))
	for range 3 {
		if got := ask(r, 0, "", shop); got != 200 {
			t.Errorf("%d", got)
		}
	}
	r.serve(loopback)
	if got := ask(r, 0, "", shop); got != 200 {
		t.Errorf("%d: it was asked again within the time", got)
	}
	r.findAtOnce()
	r.proxy.listeners[0].bare.add(loopback)
	if got := ask(r, 0, "", loopback); got != 200 {
		t.Errorf("%d: it is not found after the time", got)
	}
}

func TestAClientWithoutAServerNameGetsTheCertificateOfItsAddress(t *testing.T) {
	t.Parallel()
	clients := ca(t, "clients")
	file := clientCA(t, clients)
	r := to(t, func(c *Config) {
		c.Listeners = []Listener{{}, {Fallback: shop}, {HealthPath: probePath}, {HealthPath: probePath, ClientCA: file},
			{HealthPath: probePath, Fallback: shop}}
	}, origin(t, "http", seen))
	r.findAtOnce()
	for at, want := range []int{0, 421, 421, 421, 421} {
		if got := ask(r, at, "", loopback); got != want {
			t.Errorf("listener %d, before there is a certificate for the address: %d, want %d", at, got, want)
		}
	}
	r.serve(loopback)
	for at := range r.addrs {
		if at == 3 { // it demands a client certificate
			continue
		}
		c, err := r.nameless(at, loopback, nil)
		if err != nil {
			t.Errorf("listener %d: %v", at, err)
			continue
		}
		c.Close()
		for host, want := range map[string]int{loopback: 200, "127.0.0.1:8443": 200, shop: 421, "127.0.0.2": 421,
			"[::1]": 421, "": 421} {
			if got := ask(r, at, "", host); got != want {
				t.Errorf("listener %d, host %q: %d, want %d", at, host, got, want)
			}
		}
		if got := ask(r, at, shop, shop); got != 200 {
			t.Errorf("listener %d, with a server name: %d", at, got)
		}
		if got := ask(r, at, shop, loopback); got != 421 {
			t.Errorf("listener %d, with a server name, for the address: %d", at, got)
		}
	}
	for _, at := range []int{2, 4} {
		if status, body, err := r.say(at, "", probes["Kubernetes"]); status != 200 || body != "ok\n" {
			t.Errorf("listener %d, a health check: %d %q, %v", at, status, body, err)
		}
	}
	if got := ask(r, 3, "", loopback); got > 0 {
		t.Errorf("a client without a certificate gets %d where one is demanded", got)
	}
	if got := ask(r, 2, "", "127.0.0.1."); got != 200 {
		t.Errorf("an address with a dot behind it: %d", got)
	}
}

// A probe's connection was made without a client certificate, and has nothing but the health path
// when the address has a certificate, too.
func TestAProbesConnectionStaysOneWhenTheAddressGetsACertificate(t *testing.T) {
	t.Parallel()
	file := clientCA(t, ca(t, "clients"))
	r := to(t, func(c *Config) { c.Listeners = []Listener{{HealthPath: probePath, ClientCA: file}} },
		origin(t, "http", seen))
	r.findAtOnce()
	c := r.dial("", "http/1.1")
	r.serve(loopback)
	fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
	b, err := io.ReadAll(c)
	if !strings.HasPrefix(string(b), "HTTP/1.1 421 ") {
		t.Errorf("%q, %v", b, err)
	}
}

func TestASessionOfAnAddressEndsWithItsCertificate(t *testing.T) {
	t.Parallel()
	r := to(t, func(c *Config) { c.Listeners = []Listener{{Fallback: shop}, {Fallback: shop}} },
		origin(t, "http", seen))
	r.findAtOnce()
	r.serve(loopback)
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		store := tls.NewLRUClientSessionCache(10)
		dial := func(at int, address string) bool {
			c, err := r.nameless(at, address, func(c *tls.Config) {
				c.ClientSessionCache, c.MaxVersion = named{store}, version
			})
			check(t, err)
			defer c.Close()
			c.SetDeadline(time.Now().Add(20 * time.Second))
			io.WriteString(c, "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
			io.ReadAll(c) // the ticket comes with it
			return c.ConnectionState().DidResume
		}
		if dial(0, loopback) || !dial(0, loopback) || !dial(1, loopback) {
			t.Errorf("%s: a session of an address does not resume", tls.VersionName(version))
		}
		r.held.mu.Lock()
		was := r.held.certs[loopback]
		delete(r.held.certs, loopback)
		r.held.mu.Unlock()
		if dial(0, shop) {
			t.Errorf("%s: it resumes without the certificate", tls.VersionName(version))
		}
		r.held.mu.Lock()
		r.held.certs[loopback] = was
		r.held.mu.Unlock()
		if dial(0, loopback) {
			t.Errorf("%s: a session of the fallback resumes under the address", tls.VersionName(version))
		}
	}
}

func TestTheAddressIsTheOneThatABalancerTells(t *testing.T) {
	t.Parallel()
	r := to(t, func(c *Config) {
		c.Listeners = []Listener{{ProxyProtocol: []string{"127.0.0.0/8"}, Fallback: shop}}
	}, origin(t, "http", seen))
	r.serve("192.0.2.7")
	r.serve("2001:db8::7")
	for header, want := range map[string]string{
		"PROXY TCP4 198.51.100.1 192.0.2.7 4000 443\r\n":  "192.0.2.7",
		"PROXY TCP6 2001:db8::1 2001:db8::7 4000 443\r\n": "2001:db8::7",
		"PROXY TCP4 198.51.100.1 192.0.2.8 4000 443\r\n":  shop,
		"PROXY UNKNOWN\r\n": shop,
		"PROXY TCP6 2001:db8::1 ::ffff:192.0.2.7 4000 443\r\n": "192.0.2.7",
	} {
		raw, err := net.Dial("tcp", r.addrs[0])
		check(t, err)
		io.WriteString(raw, header)
		c := tls.Client(raw, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}})
		c.SetDeadline(time.Now().Add(20 * time.Second))
		err = c.Handshake()
		if err != nil || c.ConnectionState().PeerCertificates[0].VerifyHostname(want) != nil {
			t.Errorf("%q: %v, want the certificate of %s", header, err, want)
		}
		raw.Close()
	}
}

// TestAnAddressThatNobodyAnswersForKeepsNoClientWaiting: whether there is a certificate is not
// known, and there is a fallback.
func TestAnAddressThatNobodyAnswersForKeepsNoClientWaiting(t *testing.T) {
	t.Parallel()
	r := to(t, func(c *Config) { c.Listeners = []Listener{{Fallback: shop}} },
		origin(t, "http", func(http.ResponseWriter, *http.Request) {}))
	r.held.mu.Lock()
	r.held.hangs = loopback
	r.held.mu.Unlock()
	for range 3 {
		begun := time.Now()
		if got := ask(r, 0, "", shop); got != 200 {
			t.Errorf("%d", got)
		}
		if took := time.Since(begun); took > 10*time.Second {
			t.Errorf("it took %s", took)
		}
	}
	r.held.mu.Lock()
	defer r.held.mu.Unlock()
	if r.held.asked < 3 {
		t.Errorf("it was asked for %d times, so nothing hung", r.held.asked)
	}
}
