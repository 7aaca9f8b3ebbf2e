package edgeproxy

import (
	"bufio"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"testing"

	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/test/fleet"
)

// issued is a certificate with its key.
func issued(t testing.TB, c *fleet.CA, l fleet.Leaf) tls.Certificate {
	t.Helper()
	pair, err := c.Issue(l)
	check(t, err)
	out, err := tls.X509KeyPair(pair.Chain, pair.Key)
	check(t, err)
	return out
}

// alice is a client's certificate, with what upstreams are told of it by an edge whose own
// certificate has no URI.
func alice(t testing.TB, c *fleet.CA) (cert tls.Certificate, told string) {
	t.Helper()
	cert = issued(t, c, fleet.Leaf{Names: []string{"alice.example", "a.example"},
		URIs: []string{"spiffe://t/alice", "spiffe://t/a"}, Change: func(c *x509.Certificate) {
			c.Subject = pkix.Name{CommonName: "alice", Organization: []string{"Acme, Inc."}}
		}})
	return cert, fmt.Sprintf(`Hash=%x;Subject="CN=alice,O=Acme\, Inc.";URI=spiffe://t/alice;URI=spiffe://t/a;`+
		`DNS=alice.example;DNS=a.example`, sha256.Sum256(cert.Certificate[0]))
}

// A ticket of crypto/tls has the client's certificate, in TLS 1.2 and 1.3. So upstreams are told it
// wherever the session resumes.
func TestUpstreamsAreToldTheClientOfAResumedSession(t *testing.T) {
	t.Parallel()
	clients := ca(t, "clients")
	file := clientCA(t, clients)
	cert, want := alice(t, clients)
	up := origin(t, "http", seen)
	ring := keysource.Ring{Generation: 2, Keys: []keysource.TicketKey{keysource.NewTicketKey()}}
	var nodes []*rig
	for range 2 {
		r := to(t, func(c *Config) { c.Listeners = []Listener{{ClientCA: file}, {ClientCA: file}} }, up)
		check(t, r.proxy.Use("default", ring))
		pair := issued(t, r.ca, fleet.Leaf{Names: []string{shop},
			URIs: []string{"spiffe://t/edge", "spiffe://t/second"}})
		r.held.mu.Lock()
		r.held.certs[shop] = &pair
		r.held.mu.Unlock()
		nodes = append(nodes, r)
	}
	want = "By=spiffe://t/edge;By=spiffe://t/second;" + want
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		for _, proto := range protos {
			store := tls.NewLRUClientSessionCache(10)
			for i, at := range []struct{ node, listener int }{{0, 0}, {0, 0}, {0, 1}, {1, 0}} {
				r := nodes[at.node]
				resumed := false
				c := r.client(at.listener, func(c *tls.Config) {
					c.MinVersion, c.MaxVersion, c.ClientSessionCache = version, version, store
					c.Certificates, c.InsecureSkipVerify = []tls.Certificate{cert}, true // two CAs
					c.VerifyConnection = func(cs tls.ConnectionState) error { resumed = cs.DidResume; return nil }
				})
				transport := c.Transport.(*http.Transport)
				transport.Protocols = new(http.Protocols)
				transport.Protocols.SetHTTP1(proto == "http/1.1")
				transport.Protocols.SetHTTP2(proto == "h2")
				for range 2 { // a second one of the same connection
					_, body := r.do(c, "GET", "/", nil, func(q *http.Request) {
						q.Header = http.Header{xfcc: {lie}, "X_forwarded_client_cert": {lie}}
					})
					arrived, h, err := told(body)
					check(t, err)
					if fmt.Sprint(h[xfcc]) != "["+want+"]" || len(arrived) > 0 {
						t.Errorf("%s, %s, at %v: %v, not %s", tls.VersionName(version), proto, at, h[xfcc], want)
					}
				}
				if resumed != (i > 0) {
					t.Errorf("%s, %s, at %v: resumed: %t", tls.VersionName(version), proto, at, resumed)
				}
				c.CloseIdleConnections()
			}
		}
	}
}

func TestUpstreamsAreToldTheCertificateOfTheAddress(t *testing.T) {
	t.Parallel()
	clients := ca(t, "clients")
	cert, want := alice(t, clients)
	r := to(t, func(c *Config) {
		c.Listeners = []Listener{{ClientCA: clientCA(t, clients), Fallback: shop}}
	}, origin(t, "http", seen))
	pair := issued(t, r.ca, fleet.Leaf{Names: []string{shop}, URIs: []string{"spiffe://t/shop"}})
	at := issued(t, r.ca, fleet.Leaf{IPs: []string{loopback}, URIs: []string{"spiffe://t/address"}})
	r.held.mu.Lock()
	r.held.certs[shop], r.held.certs[loopback] = &pair, &at
	r.held.mu.Unlock()
	c, err := r.nameless(0, loopback, func(c *tls.Config) { c.Certificates = []tls.Certificate{cert} })
	check(t, err)
	defer c.Close()
	io.WriteString(c, "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	check(t, err)
	var h http.Header
	check(t, json.NewDecoder(resp.Body).Decode(&h))
	if fmt.Sprint(h[xfcc]) != "[By=spiffe://t/address;"+want+"]" {
		t.Errorf("%v, not By=spiffe://t/address;%s", h[xfcc], want)
	}
}

// As Envoy does with SANITIZE_SET, and with APPEND_FORWARD for a peer that is trusted.
func TestATrustedPeersWordOfACertificateStays(t *testing.T) {
	t.Parallel()
	clients := ca(t, "clients")
	cert, own := alice(t, clients)
	file := clientCA(t, clients)
	for _, test := range []struct {
		trusted string
		mutual  bool
		want    string
	}{
		{"10.0.0.0/8", false, "[]"},
		{"10.0.0.0/8", true, "[" + own + "]"},
		{"127.0.0.0/8", false, "[Hash=1;URI=a Hash=2;URI=b]"},
		{"127.0.0.0/8", true, "[Hash=1;URI=a,Hash=2;URI=b," + own + "]"},
	} {
		r := to(t, func(c *Config) {
			c.TrustedProxies = []netip.Prefix{netip.MustParsePrefix(test.trusted)}
			if test.mutual {
				c.Listeners[0].ClientCA = file
			}
		}, origin(t, "http", seen))
		for _, upgrade := range []string{"", "Upgrade: websocket\r\nConnection: upgrade\r\n"} {
			c, err := tls.Dial("tcp", r.addrs[0], &tls.Config{RootCAs: r.ca.Pool(), ServerName: shop,
				Certificates: []tls.Certificate{cert}})
			check(t, err)
			t.Cleanup(func() { c.Close() })
			io.WriteString(c, "GET / HTTP/1.1\r\nHost: shop.example\r\n"+upgrade+
				"Connection: X-Forwarded-Client-Cert\r\n"+
				"x-forwarded-client-cert: Hash=1;URI=a\r\nX-FORWARDED-CLIENT-CERT: Hash=2;URI=b\r\n\r\n")
			resp, err := http.ReadResponse(bufio.NewReader(c), nil)
			check(t, err)
			var h http.Header
			check(t, json.NewDecoder(resp.Body).Decode(&h))
			if fmt.Sprint(h[xfcc]) != test.want {
				t.Errorf("%+v, upgrade %q: %v", test, upgrade, h[xfcc])
			}
		}
	}
}

func TestTheWholeCertificateIsToldIfAsked(t *testing.T) {
	t.Parallel()
	clients := ca(t, "clients")
	cert, _ := alice(t, clients)
	r := to(t, func(c *Config) { c.Listeners[0].ClientCA, c.Listeners[0].XFCCCert = clientCA(t, clients), true },
		origin(t, "http", seen))
	_, body := r.do(r.client(0, func(c *tls.Config) { c.Certificates = []tls.Certificate{cert} }), "GET", "/", nil)
	_, h, err := told(body)
	check(t, err)
	_, after, _ := strings.Cut(h.Get(xfcc), `;Cert="`)
	text, _, ok := strings.Cut(after, `";Subject="`)
	text, err = url.QueryUnescape(text)
	check(t, err)
	if want := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Certificate[0]}); !ok ||
		text != string(want) {
		t.Errorf("%s", h.Get(xfcc))
	}
}

// The request goes on without By if the edge's own certificate is gone by then.
func TestAClientIsToldWithoutTheEdgesOwnCertificate(t *testing.T) {
	t.Parallel()
	clients := ca(t, "clients")
	cert, want := alice(t, clients)
	r := to(t, func(c *Config) { c.Listeners[0].ClientCA = clientCA(t, clients) }, origin(t, "http", seen))
	c, err := tls.Dial("tcp", r.addrs[0], &tls.Config{RootCAs: r.ca.Pool(), ServerName: shop,
		Certificates: []tls.Certificate{cert}})
	check(t, err)
	t.Cleanup(func() { c.Close() })
	r.held.mu.Lock()
	delete(r.held.certs, shop)
	r.held.mu.Unlock()
	io.WriteString(c, "GET / HTTP/1.1\r\nHost: shop.example\r\n\r\n")
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	check(t, err)
	var h http.Header
	check(t, json.NewDecoder(resp.Body).Decode(&h))
	if fmt.Sprint(h[xfcc]) != "["+want+"]" {
		t.Errorf("%v, not %s", h[xfcc], want)
	}
}

// What a CA signs is a name, whatever signs it has. It does not become a field of the header, nor a
// header of its own.
func TestANameOfAClientIsOneFieldOfTheHeader(t *testing.T) {
	t.Parallel()
	name := func(tag int, s string) asn1.RawValue {
		return asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: tag, Bytes: []byte(s)}
	}
	clients := ca(t, "clients")
	r := to(t, func(c *Config) { c.Listeners[0].ClientCA = clientCA(t, clients) }, origin(t, "http", seen))
	for _, c := range []struct {
		names []asn1.RawValue
		want  string
	}{
		{nil, `URI=`},
		{[]asn1.RawValue{name(2, "a.example")}, `URI=;DNS=a.example`},
		{[]asn1.RawValue{name(1, "a@b.example"), name(6, "SPIFFE://T/%2f?a=b#c")}, `URI=SPIFFE://T/%2f?a=b#c`},
		{[]asn1.RawValue{name(6, "spiffe://t/a;DNS=admin.example")}, `URI="spiffe://t/a;DNS=admin.example"`},
		{[]asn1.RawValue{name(2, "a.example,Hash=1"), name(6, "spiffe://t/a")},
			`URI=spiffe://t/a;DNS="a.example,Hash=1"`},
		{[]asn1.RawValue{name(2, `a";DNS=admin.example;"`)}, `URI=;DNS="a\";DNS=admin.example;\""`},
		{[]asn1.RawValue{name(2, `a\";DNS=admin.example`)}, `URI=;DNS="a\\\";DNS=admin.example"`},
		{[]asn1.RawValue{name(2, "a\r\nX-Admin: yes\x00\x7f")}, `URI=;DNS="a%0D%0AX-Admin: yes%00%7F"`},
	} {
		cert := issued(t, clients, fleet.Leaf{Change: func(l *x509.Certificate) {
			l.Subject = pkix.Name{CommonName: "x"}
			if c.names != nil {
				b, err := asn1.Marshal(c.names)
				check(t, err)
				l.ExtraExtensions = []pkix.Extension{{Id: oidSubjectAltName, Value: b}}
			}
		}})
		_, body := r.do(r.client(0, func(c *tls.Config) { c.Certificates = []tls.Certificate{cert} }), "GET", "/", nil)
		_, h, err := told(body)
		check(t, err)
		want := fmt.Sprintf(`[Hash=%x;Subject="CN=x";%s]`, sha256.Sum256(cert.Certificate[0]), c.want)
		if fmt.Sprint(h[xfcc]) != want || h["X-Admin"] != nil {
			t.Errorf("%v, not %s", h[xfcc], want)
		}
	}
}

// The texts are those of Envoy 1.40 (test/e2e compares with the Envoy that is installed).
func TestASubjectIsWrittenAsEnvoyWritesIt(t *testing.T) {
	attribute := func(tag int, value string, id ...int) []byte {
		b, err := asn1.Marshal(struct {
			Type  asn1.ObjectIdentifier
			Value asn1.RawValue
		}{id, asn1.RawValue{Tag: tag, Bytes: []byte(value)}})
		check(t, err)
		return b
	}
	subject := func(sets ...[][]byte) []byte {
		var all []asn1.RawValue
		for _, attributes := range sets {
			var set []byte
			for _, a := range attributes {
				set = append(set, a...)
			}
			all = append(all, asn1.RawValue{Tag: asn1.TagSet, IsCompound: true, Bytes: set})
		}
		b, err := asn1.Marshal(all)
		check(t, err)
		return b
	}
	one := func(a []byte) [][]byte { return [][]byte{a} }
	for want, der := range map[string][]byte{
		``: subject(),
		`CN=bob,OU=b+OU=a,O=Acme\, Inc.,C=DE`: subject(one(attribute(19, "DE", 2, 5, 4, 6)),
			one(attribute(12, "Acme, Inc.", 2, 5, 4, 10)),
			[][]byte{attribute(12, "a", 2, 5, 4, 11), attribute(12, "b", 2, 5, 4, 11)},
			one(attribute(12, "bob", 2, 5, 4, 3))),
		`CN=\ #lead \"quoted\" back\\slash\;semi\<a\>\+=\C3\BC\01end\ `: subject(one(attribute(12,
			" #lead \"quoted\" back\\slash;semi<a>+=ü\x01end ", 2, 5, 4, 3))),
		`OU=,OU=\#x,O=O\E2\82\AC,CN=caf\C3\A9`: subject(one(attribute(20, "caf\xe9", 2, 5, 4, 3)),
			one(attribute(30, "\x00O\x20\xac", 2, 5, 4, 10)), one(attribute(12, "#x", 2, 5, 4, 11)),
			one(attribute(12, "", 2, 5, 4, 11))),
		`1.2.3.4=#0C07756E6B6E6F776E,x500UniqueIdentifier=#03020078`: subject(one(attribute(3, "\x00x", 2, 5, 4, 45)),
			one(attribute(12, "unknown", 1, 2, 3, 4))),
		`emailAddress=a@b.example,UID=uid7,DC=example`: subject(
			one(attribute(22, "example", 0, 9, 2342, 19200300, 100, 1, 25)),
			one(attribute(12, "uid7", 0, 9, 2342, 19200300, 100, 1, 1)),
			one(attribute(22, "a@b.example", 1, 2, 840, 113549, 1, 9, 1))),
	} {
		if got := distinguishedName(der); got != want {
			t.Errorf("%s, not %s", got, want)
		}
	}
}

func FuzzDistinguishedName(f *testing.F) {
	b, err := asn1.Marshal(pkix.Name{CommonName: "a", Organization: []string{"ü,"}}.ToRDNSequence())
	check(f, err)
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, c := range distinguishedName(b) {
			if c < ' ' || c > '~' {
				t.Errorf("%q cannot stand in a header", c)
			}
		}
	})
}
