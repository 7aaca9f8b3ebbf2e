package probe

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"strings"
	"testing"
	"time"
)

// certifyRSA makes a self-signed certificate of an RSA key for host.
func certifyRSA(t *testing.T) tls.Certificate { return certifyRSABy(t, "") }

// certifyRSABy issues to itself under that name.
func certifyRSABy(t *testing.T, issuer string) tls.Certificate {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(2), DNSNames: []string{host},
		Subject:  pkix.Name{CommonName: issuer},
		NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func TestAClientOfRSAAloneIsTriedWhereAHostHasBoth(t *testing.T) {
	ec, _ := certify(t)
	second := certifyRSA(t)
	both := func(c *tls.Config) { c.Certificates = append(c.Certificates, second) }
	one, _ := serve(t, ec, 1, both)
	two, _ := serve(t, ec, 1, both)
	ecAlone, _ := serve(t, ec, 1, nil)
	rsaAlone, _ := serve(t, second, 1, nil)
	for _, c := range []struct {
		addrs []string
		words []string // of each address; nil if no address has both
	}{
		{[]string{one, two}, []string{"", ""}},
		{[]string{one, ecAlone}, []string{"", "alert 40"}},
		{[]string{ecAlone}, nil}, {[]string{rsaAlone}, nil}, {[]string{"127.0.0.1:1"}, nil},
	} {
		all, err := OnlyRSA(t.Context(), Config{SNI: host, Insecure: true, Addrs: c.addrs})
		if err != nil || len(all) != len(c.words) {
			t.Fatalf("%v: %+v, %v", c.addrs, all, err)
		}
		for i, s := range all {
			if s.Addr != c.addrs[i] || (s.Words == "") != (c.words[i] == "") || !strings.Contains(s.Words, c.words[i]) {
				t.Errorf("%+v, want %q", s, c.words[i])
			}
		}
	}
	pool := x509.NewCertPool()
	pool.AddCert(ec.Leaf)
	all, err := OnlyRSA(t.Context(), Config{SNI: host, RootCAs: pool, Addrs: []string{one}})
	if err != nil || len(all) != 1 || !strings.Contains(all[0].Words, "unknown authority") {
		t.Errorf("a second certificate that nobody trusts passes: %+v, %v", all, err)
	}
}
