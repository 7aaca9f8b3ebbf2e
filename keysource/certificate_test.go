package keysource_test

import (
	"bytes"
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/keysource/internal/testca"
)

var now = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func TestParseCertificateTakesEveryUsualForm(t *testing.T) {
	ca := testca.New(t)
	inter := ca.Intermediate(t)
	ec := testca.Key(t).(*ecdsa.PrivateKey)
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	check(t, err)
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	check(t, err)
	sec1, err := x509.MarshalECPrivateKey(ec)
	check(t, err)
	params := block("EC PARAMETERS", []byte{6, 8, 42, 134, 72, 206, 61, 3, 1, 7})

	for name, c := range map[string]struct {
		key crypto.Signer
		pem []byte // nil: PKCS#8
	}{
		"ECDSA PKCS#8":         {key: ec},
		"RSA PKCS#8":           {key: rsaKey},
		"Ed25519 PKCS#8":       {key: ed},
		"RSA PKCS#1":           {rsaKey, block("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(rsaKey))},
		"ECDSA SEC1":           {ec, block("EC PRIVATE KEY", sec1)},
		"SEC1 with parameters": {ec, append(params, block("EC PRIVATE KEY", sec1)...)},
	} {
		t.Run(name, func(t *testing.T) {
			leaf, pkcs8 := inter.IssueFor(t, c.key, testca.NotAfter, "shop.example", "*.shop.example")
			key := c.pem
			if key == nil {
				key = pkcs8
			}
			for form, chain := range map[string][]byte{
				"leaf":        leaf,
				"whole chain": join(leaf, inter.PEM, ca.PEM),
				"text around": join([]byte("subject=shop\n\n"), leaf, []byte("issuer=x\n"), inter.PEM,
					[]byte("\nthe end\n")),
				"no last newline": bytes.TrimSpace(join(leaf, inter.PEM)),
				"CRLF":            bytes.ReplaceAll(join(leaf, inter.PEM), []byte("\n"), []byte("\r\n")),
			} {
				got, err := keysource.ParseCertificate(keysource.PEM{
					Chain: chain, Key: join(key, []byte("trailing text\n")),
				}, now)
				if err != nil {
					t.Fatalf("%s: %v", form, err)
				}
				if !bytes.Equal(got.Key, pkcs8) {
					t.Errorf("%s: the key is not the PKCS#8 form", form)
				}
				if !bytes.HasPrefix(got.Chain, leaf) || bytes.Contains(got.Chain, []byte("issuer=")) {
					t.Errorf("%s: the chain is not clean PEM, leaf first", form)
				}
				if _, err := tls.X509KeyPair(got.Chain, got.Key); err != nil {
					t.Errorf("%s: crypto/tls refuses it: %v", form, err)
				}
				if !got.NotAfter.Equal(testca.NotAfter) || !got.NotBefore.Equal(testca.NotBefore) ||
					got.Issuer != inter.Cert.Subject.String() {
					t.Errorf("%s: wrong facts: %v %v %q", form, got.NotBefore, got.NotAfter, got.Issuer)
				}
				again, err := keysource.ParseCertificate(got.PEM, now)
				if err != nil || again.Version() != got.Version() {
					t.Errorf("%s: what was parsed does not parse to itself: %v", form, err)
				}
			}
		})
	}
}

func TestParseCertificateRefuses(t *testing.T) {
	ca := testca.New(t)
	inter := ca.Intermediate(t)
	leaf, key := inter.Issue(t, "shop.example")
	otherLeaf, otherKey := inter.Issue(t, "shop.example")
	stranger := testca.New(t)
	chain := join(leaf, inter.PEM, ca.PEM)
	expired, expiredKey := inter.IssueFor(t, testca.Key(t), now.Add(-time.Second), "shop.example")

	small := make([]byte, 0)
	var smallLeaf []byte
	if k, err := rsa.GenerateKey(rand.Reader, 1024); err == nil {
		smallLeaf, small = inter.IssueFor(t, k, testca.NotAfter, "shop.example")
	}
	p224, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	check(t, err)
	p224Leaf, p224Key := inter.IssueFor(t, p224, testca.NotAfter, "shop.example")
	x25519, err := ecdh.X25519().GenerateKey(rand.Reader)
	check(t, err)
	x25519DER, err := x509.MarshalPKCS8PrivateKey(x25519)
	check(t, err)

	garble := func(b []byte) []byte { // a byte in the middle of the base64 is lost to the disk
		b = bytes.Clone(b)
		b[len(b)/2] = '!'
		return b
	}
	legacy := pem.EncodeToMemory(&pem.Block{
		Type: "RSA PRIVATE KEY", Bytes: []byte("ciphertext"),
		Headers: map[string]string{"Proc-Type": "4,ENCRYPTED", "DEK-Info": "AES-256-CBC,00"},
	})

	for name, c := range map[string]struct {
		chain, key []byte
		words      string
	}{
		"nothing at all":           {nil, nil, "no CERTIFICATE block"},
		"empty key":                {chain, nil, "no PRIVATE KEY block"},
		"chain and key exchanged":  {key, chain, "no CERTIFICATE block"},
		"DER, not PEM":             {inter.Cert.Raw, key, "no CERTIFICATE block"},
		"not a certificate inside": {block("CERTIFICATE", []byte("hello")), key, "certificate 0"},
		"garbled leaf":             {join(garble(leaf), inter.PEM), key, "broken or cut short"},
		"garbled intermediate":     {join(leaf, garble(inter.PEM), ca.PEM), key, "broken or cut short"},
		"garbled root":             {join(leaf, inter.PEM, garble(ca.PEM)), key, "broken or cut short"},
		"garbled key":              {chain, garble(key), "broken or cut short"},
		"not a key inside": {chain, block("PRIVATE KEY", []byte("hello")),
			"cannot be parsed as PRIVATE KEY"},
		"key of another certificate": {chain, otherKey, "does not belong to the certificate"},
		"certificate of another key": {join(otherLeaf, inter.PEM), key, "does not belong to the certificate"},
		"another CA's link": {join(leaf, inter.PEM, stranger.PEM), key,
			"certificate 1 of the chain is not signed by the next"},
		"expired": {join(expired, inter.PEM), expiredKey, "expired at 2025-12-31T23:59:59Z"},
		"encrypted PKCS#8": {chain, block("ENCRYPTED PRIVATE KEY", []byte("x")),
			"encrypted: decrypt it first"},
		"encrypted, older form": {chain, legacy, "encrypted: decrypt it first"},
		"key that cannot sign":  {chain, block("PRIVATE KEY", x25519DER), "X25519, Envoy takes ECDSA"},
		"RSA 1024":              {smallLeaf, small, "RSA of 1024 bits"},
		"P-224":                 {p224Leaf, p224Key, "P-224"},
		"too large":             {join(chain, bytes.Repeat([]byte{'\n'}, 1<<20)), key, "more than 1048576 bytes"},
		"too large a key":       {chain, join(key, bytes.Repeat([]byte{'\n'}, 1<<20)), "more than 1048576 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			if name == "RSA 1024" && len(small) == 0 {
				t.Skip("this Go makes no such key")
			}
			got, err := keysource.ParseCertificate(keysource.PEM{Chain: c.chain, Key: c.key}, now)
			if !errors.Is(err, keysource.ErrBadCertificate) || !strings.Contains(err.Error(), c.words) {
				t.Fatalf("got %v, want ErrBadCertificate with %q", err, c.words)
			}
			if got.Chain != nil || got.Key != nil {
				t.Error("a refused certificate was returned")
			}
			for _, line := range strings.Split(string(c.key), "\n") {
				if len(line) > 20 && !strings.HasPrefix(line, "-----") && strings.Contains(err.Error(), line) {
					t.Error("the error quotes the key")
				}
			}
		})
	}
}

func TestParseCertificateWithoutATimeTakesTheExpired(t *testing.T) {
	ca := testca.New(t)
	chain, key := ca.IssueFor(t, testca.Key(t), now.Add(-time.Hour), "shop.example")
	if _, err := keysource.ParseCertificate(keysource.PEM{Chain: chain, Key: key}, time.Time{}); err != nil {
		t.Fatal(err)
	}
}

// A file that is still being written may end anywhere. Only an end between two blocks leaves a
// whole, shorter chain.
func TestParseCertificateNoticesEveryCut(t *testing.T) {
	ca := testca.New(t)
	inter := ca.Intermediate(t)
	leaf, key := inter.Issue(t, "shop.example")
	chain := join(leaf, inter.PEM, ca.PEM)
	whole := map[int]bool{} // with and without the newline
	for _, n := range []int{len(leaf), len(leaf) + len(inter.PEM), len(chain)} {
		whole[n], whole[n-1] = true, true
	}
	for n := range chain {
		_, err := keysource.ParseCertificate(keysource.PEM{Chain: chain[:n], Key: key}, now)
		if (err == nil) != whole[n] {
			t.Fatalf("chain cut at %d of %d (…%q): %v", n, len(chain), chain[max(0, n-12):n], err)
		}
	}
	for n := range key {
		_, err := keysource.ParseCertificate(keysource.PEM{Chain: chain, Key: key[:n]}, now)
		if (err == nil) != (n == len(key)-1) {
			t.Fatalf("key cut at %d of %d: %v", n, len(key), err)
		}
	}
}

func TestVersionIsOfAllThatIsSent(t *testing.T) {
	ca := testca.New(t)
	chain, key := ca.Issue(t, "shop.example")
	base, err := keysource.ParseCertificate(keysource.PEM{Chain: chain, Key: key}, now)
	check(t, err)
	longer, err := keysource.ParseCertificate(keysource.PEM{Chain: join(chain, ca.PEM), Key: key}, now)
	check(t, err)
	if base.Version() == longer.Version() {
		t.Error("another chain, the same version")
	}
	moved := base
	moved.Chain, moved.Key = append(bytes.Clone(base.Chain), base.Key[0]), base.Key[1:]
	if base.Version() == moved.Version() {
		t.Error("a byte moved from the key to the chain keeps the version")
	}
}

func TestCovers(t *testing.T) {
	c := keysource.Certificate{Names: []string{"Shop.example", "*.api.example", "bücher.example",
		"under_score.example"}}
	for n, want := range map[keysource.Name]bool{
		"shop.example": true, "www.shop.example": false, "a.api.example": true, "a.b.api.example": false,
		"api.example":   false,
		"*.api.example": true, "*.shop.example": false, "xn--bcher-kva.example": true, "": false,
		"other.example": false,
	} {
		if c.Covers(n) != want {
			t.Errorf("Covers(%q) = %v", n, !want)
		}
	}
}

func FuzzParseCertificate(f *testing.F) {
	ca := testca.New(f)
	leaf, key := ca.Issue(f, "shop.example")
	f.Add(join(leaf, ca.PEM), key)
	f.Add(leaf[:len(leaf)/2], key)
	f.Add([]byte("-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n"), []byte("-----BEGIN"))
	f.Fuzz(func(t *testing.T, chain, key []byte) {
		c, err := keysource.ParseCertificate(keysource.PEM{Chain: chain, Key: key}, now)
		if err != nil {
			if !errors.Is(err, keysource.ErrBadCertificate) {
				t.Fatalf("%v is no ErrBadCertificate", err)
			}
			return
		}
		again, err := keysource.ParseCertificate(c.PEM, now)
		if err != nil || again.Version() != c.Version() {
			t.Fatalf("not stable: %v", err)
		}
	})
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func join(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

func block(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

func TestACertificateIsForAnAddressOnlyAsAnIPAddress(t *testing.T) {
	for what, c := range map[string]struct {
		leaf   x509.Certificate
		covers []keysource.Name
		not    []keysource.Name
	}{
		"as IP addresses": {
			x509.Certificate{IPAddresses: []net.IP{net.ParseIP("192.0.2.1"), net.ParseIP("2001:db8::1")}},
			[]keysource.Name{"192.0.2.1", "2001:db8::1"}, []keysource.Name{"192.0.2.2", "*.0.2.1"},
		},
		"as a DNS name": {x509.Certificate{DNSNames: []string{"192.0.2.1"}}, nil, []keysource.Name{"192.0.2.1"}},
		"as a wildcard": {x509.Certificate{DNSNames: []string{"*.0.2.1"}}, nil, []keysource.Name{"192.0.2.1"}},
		"as the common name": {x509.Certificate{Subject: pkix.Name{CommonName: "192.0.2.1"}}, nil,
			[]keysource.Name{"192.0.2.1"}},
	} {
		key := testca.Key(t)
		c.leaf.SerialNumber, c.leaf.NotAfter = big.NewInt(1), time.Now().Add(time.Hour)
		if c.leaf.Subject.CommonName == "" {
			c.leaf.Subject.CommonName = "leaf"
		}
		der, err := x509.CreateCertificate(rand.Reader, &c.leaf, &c.leaf, key.Public(), key)
		check(t, err)
		pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
		check(t, err)
		got, err := keysource.ParseCertificate(keysource.DER{Chain: [][]byte{der}, Key: pkcs8}.PEM(), time.Time{})
		check(t, err)
		for _, n := range c.covers {
			if err := got.CheckName(n); err != nil {
				t.Errorf("%s: %v", what, err)
			}
		}
		for _, n := range c.not {
			err := got.CheckName(n)
			_, address := n.Address()
			if err == nil || address != strings.Contains(err.Error(), "as an IP address, not") {
				t.Errorf("%s, %s: %v", what, n, err)
			}
			leaf, err := x509.ParseCertificate(der)
			check(t, err)
			if leaf.VerifyHostname(string(n)) == nil {
				t.Errorf("%s: a client takes it for %s", what, n)
			}
		}
	}
}

// certbot names the folder of a wildcard after the domain.
func TestACertificateForOtherNamesSaysWhereToPutIt(t *testing.T) {
	for names, want := range map[string]string{
		"*.shop.example": "put it under *.shop.example (its folder is _.shop.example)",
		"bank.example":   "put it under one of its names",
	} {
		err := keysource.Certificate{Names: []string{names}}.CheckName("shop.example")
		if err == nil || !strings.HasSuffix(err.Error(), want) {
			t.Errorf("%s: %v, want %s", names, err, want)
		}
	}
}
