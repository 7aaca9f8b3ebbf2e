// Package identitytest makes certificates for the tests of who a node is: those of a CA, and those
// of a server.
package identitytest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-tls/lockstep/internal/atomicfile"
	"github.com/lockstep-tls/lockstep/internal/testkit"
)

// Authority is a CA.
type Authority struct {
	t    testing.TB
	Cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// NewAuthority makes the CA of a SPIFFE trust domain. If domain is empty it is that of none.
func NewAuthority(t testing.TB, domain string) Authority {
	t.Helper()
	template := &x509.Certificate{IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	if domain != "" {
		template.URIs = spiffe(domain)
	}
	key := newKey(t)
	return Authority{t: t, Cert: sign(t, template, template, key, key), key: key}
}

// Sign makes a certificate for a new key. It is valid for an hour.
func (a Authority) Sign(template *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	a.t.Helper()
	key := newKey(a.t)
	return sign(a.t, template, a.Cert, key, a.key), key
}

// SignUntil makes a certificate for a new key. It is valid from the template's NotBefore, or a day
// before until.
func (a Authority) SignUntil(template *x509.Certificate, until time.Time) (*x509.Certificate, *ecdsa.PrivateKey) {
	a.t.Helper()
	if template.NotBefore.IsZero() {
		template.NotBefore = until.Add(-24 * time.Hour)
	}
	template.NotAfter = until
	key := newKey(a.t)
	return sign(a.t, template, a.Cert, key, a.key), key
}

// SVID makes a certificate for an ID, such as fleet.example/edge/1.
func (a Authority) SVID(id string) tls.Certificate {
	a.t.Helper()
	cert, key := a.Sign(&x509.Certificate{URIs: spiffe(id), KeyUsage: x509.KeyUsageDigitalSignature})
	return tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key, Leaf: cert}
}

// PEM returns a certificate as a file has it.
func PEM(c *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
}

// KeyPEM returns a private key as a file has it.
func KeyPEM(t testing.TB, key *ecdsa.PrivateKey) []byte {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	testkit.Check(t, err)
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

// Certify writes a certificate for name, and more, into a certificate directory. It signs itself.
func Certify(t testing.TB, dir, name string, more ...string) {
	t.Helper()
	key := newKey(t)
	template := &x509.Certificate{DNSNames: append(more, name)}
	cert := sign(t, template, template, key, key)
	folder := filepath.Join(dir, name)
	testkit.Check(t, os.MkdirAll(folder, 0o700))
	testkit.Check(t, atomicfile.Write(filepath.Join(folder, "tls.key"), KeyPEM(t, key), 0o600))
	testkit.Check(t, atomicfile.Write(filepath.Join(folder, "tls.crt"), PEM(cert), 0o600))
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	testkit.Check(t, err)
	return key
}

// sign makes a certificate for key. It is signed with by, which is the key of parent.
func sign(t testing.TB, template, parent *x509.Certificate, key, by *ecdsa.PrivateKey) *x509.Certificate {
	t.Helper()
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	if template.NotAfter.IsZero() {
		template.NotBefore, template.NotAfter = time.Now().Add(-time.Minute), time.Now().Add(time.Hour)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), by)
	testkit.Check(t, err)
	cert, err := x509.ParseCertificate(der)
	testkit.Check(t, err)
	return cert
}

// spiffe returns the URI of an ID, or of a trust domain.
func spiffe(id string) []*url.URL {
	domain, _, _ := strings.Cut(id, "/")
	return []*url.URL{{Scheme: "spiffe", Host: domain, Path: id[len(domain):]}}
}
