package keysource

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/lockstep-tls/lockstep/keysource/internal/testca"
)

func TestTheNameOfASecondCertificateIsNoServerName(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"shop.example:rsa", "shop.example:rsa"},
		{"Shop.Example.:rsa", "shop.example:rsa"},
		{"*.shop.example:rsa", "*.shop.example:rsa"},
		{"shop.example", "shop.example"},
		{"shop.example:rsa:rsa", ""},
		{"shop.example:ecdsa", ""},
		{":rsa", ""},
		{"shop.example:RSA", ""},
	} {
		n, err := CertName(c.in)
		if string(n) != c.want || (err == nil) != (c.want != "") || err != nil && !errors.Is(err, ErrBadName) {
			t.Errorf("%s: %q, %v", c.in, n, err)
		}
	}
	if n, err := ServerName("shop.example:rsa"); err == nil {
		t.Errorf("a client may ask for %s", n)
	}
	for _, asked := range []string{"shop.example:rsa", "chain:shop.example:rsa", "sds://shop.example:rsa"} {
		if n, err := CertificateName(asked); n != "shop.example:rsa" || err != nil {
			t.Errorf("%s: %s, %v", asked, n, err)
		}
	}
	n := Name("www.shop.example")
	if s := n.Second(); !s.IsSecond() || s.Host() != n || s.Wildcard() != "*.shop.example:rsa" || s.Second() != s ||
		n.IsSecond() || n.Host() != n || ChainName(s) != "chain:www.shop.example:rsa" {
		t.Errorf("%s %s", s, s.Wildcard())
	}
	for _, n := range []Name{"shop.example", "192.0.2.1", "2001:db8::1"} {
		second, err := CertName(string(n) + ":rsa")
		if w := second.Wildcard(); w != "" || err != nil || second != n.Second() || second.Host() != n {
			t.Errorf("%s: %s, %s, %v", n, second, w, err)
		}
	}
	if n, err := CertName("[2001:DB8::1]:rsa"); n != "2001:db8::1:rsa" || err != nil {
		t.Errorf("%s, %v", n, err)
	}
}

func TestASecondCertificateIsRSABesideECDSA(t *testing.T) {
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	check(err)
	ca := testca.New(t)
	parse := func(chain, key []byte) Certificate {
		c, err := ParseCertificate(PEM{Chain: chain, Key: key}, time.Now())
		check(err)
		return c
	}
	c := parse(ca.IssueFor(t, key, testca.NotAfter, "shop.example"))
	if err := c.CheckName("shop.example:rsa"); err != nil || c.Kind() != x509.RSA {
		t.Errorf("%v", err)
	}
	if err := c.CheckName("other.example:rsa"); !errors.Is(err, ErrBadCertificate) {
		t.Errorf("%v", err)
	}
	if err := c.CheckFirst("shop.example"); !errors.Is(err, ErrBadCertificate) {
		t.Errorf("an RSA certificate is taken as the first of two: %v", err)
	}
	ec := parse(ca.Issue(t, "shop.example"))
	if err := ec.CheckName("shop.example:rsa"); !errors.Is(err, ErrBadCertificate) {
		t.Errorf("an ECDSA certificate is taken as the second one: %v", err)
	}
	if err := ec.CheckFirst("shop.example"); err != nil {
		t.Error(err)
	}
}

// What is given has not been put in order yet.
func TestTheKindOfALeafIsToldInEveryForm(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	ca := testca.New(t)
	inter := ca.Intermediate(t) // ECDSA
	chain, keyPEM := inter.IssueFor(t, key, testca.NotAfter, "a.example")
	for name, text := range map[string][]byte{
		"the key before it": slices.Concat(keyPEM, chain), "the issuer before it": slices.Concat(inter.PEM, chain),
		"with a byte order mark": slices.Concat([]byte("\xef\xbb\xbf"), chain),
	} {
		if kind := LeafKind(text); kind != x509.RSA {
			t.Errorf("%s: %s", name, kind)
		}
	}
	if kind := LeafKind([]byte("half")); kind != x509.UnknownPublicKeyAlgorithm {
		t.Errorf("what is none is %s", kind)
	}
}
