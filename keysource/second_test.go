package keysource

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"errors"
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
		if w := n.Second().Wildcard(); w != "" {
			t.Errorf("%s has the wildcard %s", n.Second(), w)
		}
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
