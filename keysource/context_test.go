package keysource_test

import (
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/keysource/internal/testca"
)

// signed is a certificate with these names of an issuer of that name.
func signed(t *testing.T, issuer, common string, serial int64, names ...string) []byte {
	t.Helper()
	key := testca.Key(t)
	leaf := &x509.Certificate{SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: common},
		NotAfter: time.Now().Add(time.Hour)}
	for _, n := range names {
		if ip := net.ParseIP(n); ip != nil {
			leaf.IPAddresses = append(leaf.IPAddresses, ip)
		} else {
			leaf.DNSNames = append(leaf.DNSNames, n)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, leaf, &x509.Certificate{Subject: pkix.Name{CommonName: issuer}},
		key.Public(), key)
	check(t, err)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func TestResumptionContextIsOfNamesIssuerAndServerName(t *testing.T) {
	base, err := keysource.ResumptionContext(signed(t, "R1", "", 1, "a.example", "b.example", "192.0.2.1"),
		"a.example")
	check(t, err)
	for name, c := range map[string]struct {
		chain  []byte
		server keysource.Name
		want   string // of what is said; empty: the same context
	}{
		"renewed": {signed(t, "R1", "", 2, "a.example", "b.example", "192.0.2.1"), "a.example", ""},
		"another issuer": {signed(t, "R2", "", 2, "a.example", "b.example", "192.0.2.1"), "a.example",
			"another issuer (CN=R2, before CN=R1)"},
		"a name more": {signed(t, "R1", "", 2, "a.example", "b.example", "c.example", "192.0.2.1"), "a.example",
			"other names"},
		"an address less": {signed(t, "R1", "", 2, "a.example", "b.example"), "a.example", "other names"},
		"another order": {signed(t, "R1", "", 2, "b.example", "a.example", "192.0.2.1"), "a.example",
			"another order"},
		"with common name": {signed(t, "R1", "a.example", 2, "a.example", "b.example", "192.0.2.1"), "a.example",
			"common name"},
		"for another chain": {signed(t, "R1", "", 2, "a.example", "b.example", "192.0.2.1"), "b.example", "-"},
	} {
		next, err := keysource.ResumptionContext(c.chain, c.server)
		check(t, err)
		if (next.Fingerprint == base.Fingerprint) != (c.want == "") {
			t.Errorf("%s: fingerprint %s, before %s", name, next.Fingerprint, base.Fingerprint)
		}
		if said := strings.Join(base.Changes(next), "; "); c.want != "-" && (said == "") != (c.want == "") ||
			c.want != "-" && !strings.Contains(said, c.want) {
			t.Errorf("%s: said %q, want %q", name, said, c.want)
		}
	}
	if _, err := keysource.ResumptionContext([]byte("x"), "a.example"); !errors.Is(err, keysource.ErrBadCertificate) {
		t.Errorf("%v", err)
	}
}

func TestContextTakesTheFirstCommonNameAndURIs(t *testing.T) {
	of := func(uri string, common ...string) keysource.Context {
		key := testca.Key(t)
		u, err := url.Parse(uri)
		check(t, err)
		leaf := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), URIs: []*url.URL{u}}
		for _, n := range common {
			leaf.Subject.ExtraNames = append(leaf.Subject.ExtraNames,
				pkix.AttributeTypeAndValue{Type: asn1.ObjectIdentifier{2, 5, 4, 3}, Value: n})
		}
		der, err := x509.CreateCertificate(rand.Reader, leaf, &x509.Certificate{Subject: pkix.Name{CommonName: "R1"}},
			key.Public(), key)
		check(t, err)
		chain := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
		c, err := keysource.ResumptionContext(chain, "a.example")
		check(t, err)
		return c
	}
	base := of("spiffe://t/a", "one", "two")
	if base.CommonName != "one" || !slices.Equal(base.Names, []string{"spiffe://t/a"}) || base.Key != "ECDSA" {
		t.Errorf("%+v", base)
	}
	for _, c := range []struct {
		next keysource.Context
		want string
	}{
		{of("spiffe://t/a", "two", "one"), `another common name ("two", before "one")`},
		{of("spiffe://t/b", "one", "two"), "other names, or in another order (spiffe://t/b, before spiffe://t/a)"},
	} {
		if said := strings.Join(base.Changes(c.next), "; "); said != c.want {
			t.Errorf("said %q, want %q", said, c.want)
		}
	}
}

func TestAnotherKindOfKeyEndsSessionsOfTLS12Only(t *testing.T) {
	base, err := keysource.ResumptionContext(signed(t, "R1", "", 1, "a.example"), "a.example")
	check(t, err)
	next := base
	next.Key = "RSA"
	if ended := base.Ended(next); !slices.Equal(ended, []string{"TLS 1.2"}) {
		t.Errorf("it ends %q", ended)
	}
	said := strings.Join(base.Changes(next), "; ")
	if !strings.Contains(said, "another kind of key (RSA, before ECDSA)") {
		t.Errorf("said %q", said)
	}
	next.Fingerprint, next.Issuer = "other", "CN=R2"
	if ended := base.Ended(next); !slices.Equal(ended, []string{"TLS 1.2", "TLS 1.3"}) {
		t.Errorf("another issuer ends %q", ended)
	}
}

// TestAContextThatTheVersionBeforeWrote has no kind of key, no URIs, and another fingerprint.
func TestAContextThatTheVersionBeforeWrote(t *testing.T) {
	before := keysource.Context{CommonName: "c", Names: []string{"a.example", "2001:db8::1"}, Issuer: "CN=R1",
		Fingerprint: "0123"}
	next := keysource.Context{CommonName: "c", Names: []string{"a.example", "2001:db8::1", "spiffe://t/a"},
		Issuer: "CN=R1", Key: "RSA", Fingerprint: "4567"}
	if said := before.Changes(next); said != nil {
		t.Errorf("said %q of what it cannot know", said)
	}
	next.Issuer = "CN=R2"
	if said := before.Changes(next); len(said) != 1 || !strings.Contains(said[0], "another issuer") {
		t.Errorf("said %q", said)
	}
}
