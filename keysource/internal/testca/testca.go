// Package testca makes certificates for the tests of keysource and its sources.
package testca

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"testing"
	"time"
)

// The life of every certificate: it covers the 2000-01-01 of testing/synctest as well as today.
var (
	NotBefore = time.Date(1999, 1, 1, 0, 0, 0, 0, time.UTC)
	NotAfter  = time.Date(2099, 1, 1, 0, 0, 0, 0, time.UTC)
)

// CA is a root that signs.
type CA struct {
	Cert *x509.Certificate
	Key  crypto.Signer
	PEM  []byte
}

// New makes a root.
func New(t testing.TB) CA { return CA{}.Intermediate(t) }

// Intermediate makes a CA signed by ca, or by itself if ca is the zero value.
func (ca CA) Intermediate(t testing.TB) CA {
	key := Key(t)
	serial := serial(t)
	tmpl := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "Test CA " + serial.Text(36)},
		NotBefore: NotBefore, NotAfter: NotAfter,
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	if ca.Cert == nil {
		ca = CA{Cert: tmpl, Key: key}
	}
	cert := ca.sign(t, tmpl, key)
	return CA{Cert: cert, Key: key, PEM: encode("CERTIFICATE", cert.Raw)}
}

// Issue makes a leaf for names with a fresh key: the certificate and the PKCS#8 key, both PEM.
func (ca CA) Issue(t testing.TB, names ...string) (cert, key []byte) {
	return ca.IssueFor(t, Key(t), NotAfter, names...)
}

// IssueFor makes a leaf for key that ends at notAfter.
func (ca CA) IssueFor(t testing.TB, key crypto.Signer, notAfter time.Time, names ...string) (certPEM, keyPEM []byte) {
	tmpl := &x509.Certificate{SerialNumber: serial(t), NotBefore: NotBefore, NotAfter: notAfter}
	for _, n := range names {
		if ip := net.ParseIP(n); ip != nil {
			tmpl.IPAddresses = append(tmpl.IPAddresses, ip)
		} else {
			tmpl.DNSNames = append(tmpl.DNSNames, n)
		}
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	must(t, err)
	return encode("CERTIFICATE", ca.sign(t, tmpl, key).Raw), encode("PRIVATE KEY", der)
}

// IssueAs is IssueFor for a leaf that change has changed.
func (ca CA) IssueAs(t testing.TB, key crypto.Signer, change func(*x509.Certificate), names ...string,
) (certPEM, keyPEM []byte) {
	tmpl := &x509.Certificate{SerialNumber: serial(t), DNSNames: names, NotBefore: NotBefore, NotAfter: NotAfter}
	change(tmpl)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	must(t, err)
	return encode("CERTIFICATE", ca.sign(t, tmpl, key).Raw), encode("PRIVATE KEY", der)
}

// Key makes an ECDSA P-256 key.
func Key(t testing.TB) crypto.Signer {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	return key
}

func (ca CA) sign(t testing.TB, tmpl *x509.Certificate, key crypto.Signer) *x509.Certificate {
	der, err := x509.CreateCertificate(rand.Reader, tmpl, ca.Cert, key.Public(), ca.Key)
	must(t, err)
	cert, err := x509.ParseCertificate(der)
	must(t, err)
	return cert
}

func serial(t testing.TB) *big.Int {
	n, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	must(t, err)
	return n
}

func encode(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
