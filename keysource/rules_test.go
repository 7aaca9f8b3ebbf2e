package keysource_test

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/keysource/internal/testca"
)

// issue makes a leaf below ca that edit has changed.
func issue(t testing.TB, ca testca.CA, key crypto.Signer, edit func(*x509.Certificate)) (chain, keyPEM []byte) {
	t.Helper()
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(7), DNSNames: []string{"shop.example"},
		NotBefore: testca.NotBefore, NotAfter: testca.NotAfter}
	edit(tmpl)
	der, err := x509.CreateCertificate(rand.Reader, tmpl, ca.Cert, key.Public(), ca.Key)
	check(t, err)
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	check(t, err)
	return join(block("CERTIFICATE", der), ca.PEM), block("PRIVATE KEY", pkcs8)
}

// sub makes a CA below ca that edit has changed.
func sub(t testing.TB, ca testca.CA, edit func(*x509.Certificate)) testca.CA {
	t.Helper()
	key := testca.Key(t)
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(8), Subject: pkix.Name{CommonName: "Sub CA"}, NotBefore: testca.NotBefore,
		NotAfter: testca.NotAfter,
		IsCA:     true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	edit(tmpl)
	der, err := x509.CreateCertificate(rand.Reader, tmpl, ca.Cert, key.Public(), ca.Key)
	check(t, err)
	cert, err := x509.ParseCertificate(der)
	check(t, err)
	return testca.CA{Cert: cert, Key: key, PEM: join(block("CERTIFICATE", der), ca.PEM)}
}

func extension(id asn1.ObjectIdentifier, value any) pkix.Extension {
	der, err := asn1.Marshal(value)
	if err != nil {
		panic(err)
	}
	return pkix.Extension{Id: id, Value: der}
}

var tlsFeature = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 1, 24}

// Each case is refused for its rule and taken without the edit. test/corpus tries the rest on a
// real Envoy.
func TestRulesRefuse(t *testing.T) {
	root := testca.New(t)
	ec := testca.Key(t)
	//lint:ignore SA1019 such keys are what is refused
	threePrimes, err := rsa.GenerateMultiPrimeKey(rand.Reader, 3, 2048)
	check(t, err)
	nothing := func(*x509.Certificate) {}
	limited := sub(t, root, func(c *x509.Certificate) { c.MaxPathLenZero = true })
	for rule, c := range map[string]struct {
		ca    testca.CA
		key   crypto.Signer
		edit  func(*x509.Certificate)
		words string
	}{
		"rsa-primes": {root, threePrimes, nothing, "more than two primes"},
		"key-usage": {root, ec, func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageKeyAgreement },
			"lacks digitalSignature"},
		"extended-key-usage": {root, ec,
			func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} },
			"lacks serverAuth"},
		"must-staple": {root, ec,
			func(c *x509.Certificate) {
				c.ExtraExtensions = []pkix.Extension{extension(tlsFeature,
					[]int{5})}
			}, "have it issued without the extension"},
		"empty-common-name": {root, ec, func(c *x509.Certificate) {
			c.Subject.ExtraNames = []pkix.AttributeTypeAndValue{{Type: asn1.ObjectIdentifier{2, 5, 4, 3}, Value: ""}}
		}, "empty common name"},
		"no-name": {root, ec, func(c *x509.Certificate) { c.DNSNames = nil }, "neither a common name nor"},
		"critical-extension": {root, ec, func(c *x509.Certificate) {
			c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3}, Critical: true,
				Value: []byte{5, 0}}}
		}, "1.2.3"},
		"path-length": {sub(t, limited, func(c *x509.Certificate) { c.Subject.CommonName = "Sub sub CA" }), ec,
			nothing, "allows 0 CAs below it and has 1"},
		"name-constraints": {sub(t, root, func(c *x509.Certificate) {
			c.PermittedDNSDomainsCritical, c.ExcludedDNSDomains = true, []string{"example"}
		}), ec, nothing, "may not issue for"},
		"chain-size": {root, ec, func(c *x509.Certificate) {
			c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3}, Value: make([]byte, 100<<10)}}
		}, "most clients take 102400"},
	} {
		t.Run(rule, func(t *testing.T) {
			chain, key := issue(t, c.ca, c.key, c.edit)
			_, err := keysource.ParseCertificate(keysource.PEM{Chain: chain, Key: key}, time.Time{})
			if !errors.Is(err, keysource.ErrBadCertificate) || !strings.Contains(err.Error(), rule+": ") ||
				!strings.Contains(err.Error(), c.words) {
				t.Fatalf("got %v, want ErrBadCertificate for %s with %q", err, rule, c.words)
			}
		})
	}
	chain, key := issue(t, sub(t, root, nothing), ec, nothing)
	if _, err := keysource.ParseCertificate(keysource.PEM{Chain: chain, Key: key}, now); err != nil {
		t.Error(err)
	}
}

// An RSA leaf signs whatever its keyUsage says, as far as Envoy goes.
func TestKeyUsageIsForECDSA(t *testing.T) {
	ca := testca.New(t)
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	check(t, err)
	chain, key := issue(t, ca, k, func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageKeyEncipherment })
	if _, err := keysource.ParseCertificate(keysource.PEM{Chain: chain, Key: key}, now); err != nil {
		t.Error(err)
	}
}

func TestTheValidityOfALeafAndItsIssuerCounts(t *testing.T) {
	root := testca.New(t)
	ca := sub(t, root, func(c *x509.Certificate) { c.NotBefore, c.NotAfter = now, now.Add(time.Hour) })
	chain, key := issue(t, ca, testca.Key(t), func(*x509.Certificate) {})
	for words, at := range map[string]time.Time{
		"certificate 1 of the chain, an issuer, expired at 2026-01-01T01:00:00Z":    now.Add(2 * time.Hour),
		"certificate 1 of the chain, an issuer, is not valid before 2026-01-01T00:": now.Add(-time.Hour),
		"": now.Add(-time.Minute),
	} {
		_, err := keysource.ParseCertificate(keysource.PEM{Chain: chain, Key: key}, at)
		if words == "" && err != nil || words != "" && (err == nil || !strings.Contains(err.Error(), words)) {
			t.Errorf("at %v: %v, want %q", at, err, words)
		}
	}
	if _, err := keysource.ParseCertificate(keysource.PEM{Chain: chain, Key: key}, time.Time{}); err != nil {
		t.Errorf("without a time: %v", err)
	}
}

// What was stored by a version that knew fewer rules is checked when it is read.
func TestCheckAppliesTheRulesToWhatWasParsedBefore(t *testing.T) {
	ca := testca.New(t)
	good := derOf(t)(issue(t, ca, testca.Key(t), func(*x509.Certificate) {}))
	bad := derOf(t)(issue(t, ca, testca.Key(t), func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageKeyAgreement }))
	for range 2 { // the second time, what passed is remembered
		check(t, good.Check())
		if err := bad.Check(); !errors.Is(err, keysource.ErrBadCertificate) ||
			!strings.Contains(err.Error(), "key-usage: ") {
			t.Fatalf("got %v", err)
		}
	}
	for name, d := range map[string]keysource.DER{"nothing": {}, "no certificate": {Chain: [][]byte{[]byte("x")}},
		"no issuer": {Chain: [][]byte{good.Chain[0], nil}}} {
		if err := d.Check(); !errors.Is(err, keysource.ErrBadCertificate) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// derOf reads PEM without any check.
func derOf(t testing.TB) func(chain, key []byte) keysource.DER {
	return func(chain, key []byte) (d keysource.DER) {
		t.Helper()
		for b, rest := pem.Decode(chain); b != nil; b, rest = pem.Decode(rest) {
			d.Chain = append(d.Chain, b.Bytes)
		}
		b, _ := pem.Decode(key)
		d.Key = b.Bytes
		return d
	}
}

func BenchmarkCheck(b *testing.B) {
	ca := testca.New(b)
	same := derOf(b)(ca.Issue(b, "shop.example"))
	same.Chain = append(same.Chain, ca.Cert.Raw)
	b.Run("again", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			check(b, same.Check())
		}
	})
	b.Run("first", func(b *testing.B) {
		b.ReportAllocs()
		d := same
		d.Key = slices.Clone(d.Key)
		for i := 0; b.Loop(); i++ {
			// the key of ECDSA is not looked at
			d.Key[0], d.Key[1], d.Key[2], d.Key[3] = byte(i), byte(i>>8), byte(i>>16), byte(i>>24)
			check(b, d.Check())
		}
	})
}
