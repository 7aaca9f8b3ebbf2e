package double_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"math/big"
	"sync/atomic"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"google.golang.org/protobuf/proto"
)

// The parts of Envoy's words that name the cause.
const (
	mustStaple = "OCSP response is required for must-staple certificate"
	keyUsage   = "Failed to load certificate chain from <inline>"
)

// flaw is what is wrong with a certificate.
type flaw string

const (
	good         flaw = "good"
	needsStaple  flaw = "must-staple"  // with the TLS feature extension, and without a staple
	keyAgreement flaw = "keyAgreement" // an EC key whose keyUsage lacks digitalSignature
)

// issuer makes certificates of one CA. All hosts share one private key.
type issuer struct {
	t    testing.TB
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	leaf *ecdsa.PrivateKey
	pem  []byte // of leaf
	n    atomic.Int64
}

func newIssuer(t testing.TB) *issuer {
	t.Helper()
	i := &issuer{t: t}
	var err error
	if i.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err == nil {
		i.leaf, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	}
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(i.leaf)
	if err != nil {
		t.Fatal(err)
	}
	i.pem = pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})
	i.cert = i.sign(&x509.Certificate{
		Subject: pkix.Name{CommonName: "double"}, IsCA: true,
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}, nil, i.key)
	return i
}

// sign signs by parent; nil signs by the key itself.
func (i *issuer) sign(c, parent *x509.Certificate, key *ecdsa.PrivateKey) *x509.Certificate {
	i.t.Helper()
	serial := i.n.Add(1)
	c.SerialNumber, c.NotBefore, c.NotAfter = big.NewInt(serial),
		time.Now().Add(-time.Hour), time.Now().Add(24*time.Hour)
	by := i.key
	if parent == nil {
		parent, by = c, key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, key.Public(), by)
	if err != nil {
		i.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		i.t.Fatal(err)
	}
	return cert
}

// issue makes a certificate for a host. The serial is another one each time.
func (i *issuer) issue(host string, f flaw) *x509.Certificate {
	i.t.Helper()
	c := &x509.Certificate{DNSNames: []string{host}, KeyUsage: x509.KeyUsageDigitalSignature}
	switch f {
	case needsStaple:
		c.ExtraExtensions = []pkix.Extension{
			{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 1, 24}, Value: []byte{0x30, 3, 2, 1, 5}},
		}
	case keyAgreement:
		c.KeyUsage = x509.KeyUsageKeyAgreement
	}
	return i.sign(c, i.cert, i.leaf)
}

// placeholder makes a self-signed certificate. Every Envoy takes it, and every client refuses it.
func (i *issuer) placeholder(host string) *x509.Certificate {
	i.t.Helper()
	return i.sign(&x509.Certificate{DNSNames: []string{host}, KeyUsage: x509.KeyUsageDigitalSignature}, nil, i.leaf)
}

func (i *issuer) roots() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(i.cert)
	return p
}

// certificate encodes a Secret. A line of text before the chain, if there is one, makes other bytes
// of the same certificate.
func (i *issuer) certificate(name string, c *x509.Certificate, line string) []byte {
	i.t.Helper()
	chain := append([]byte(line), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	return encode(i.t, &tlsv3.Secret{Name: name, Type: &tlsv3.Secret_TlsCertificate{
		TlsCertificate: &tlsv3.TlsCertificate{CertificateChain: inline(chain), PrivateKey: inline(i.pem)},
	}})
}

// half encodes a Secret that lacks either the chain or the private key.
func (i *issuer) half(name string, chain bool) []byte {
	i.t.Helper()
	m := &tlsv3.TlsCertificate{PrivateKey: inline(i.pem)}
	if chain {
		c := i.issue("*.example", good)
		m = &tlsv3.TlsCertificate{
			CertificateChain: inline(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})),
		}
	}
	return encode(i.t, &tlsv3.Secret{Name: name, Type: &tlsv3.Secret_TlsCertificate{TlsCertificate: m}})
}

// ring encodes a Secret of ticket keys.
func ring(t testing.TB, name string, keys ...[]byte) []byte {
	t.Helper()
	m := &tlsv3.TlsSessionTicketKeys{}
	for _, k := range keys {
		m.Keys = append(m.Keys, inline(k))
	}
	return encode(t, &tlsv3.Secret{Name: name, Type: &tlsv3.Secret_SessionTicketKeys{SessionTicketKeys: m}})
}

// newKey makes a ticket key.
func newKey() []byte {
	k := make([]byte, 80)
	rand.Read(k) // never fails (crypto/rand)
	return k
}

func inline(b []byte) *corev3.DataSource {
	return &corev3.DataSource{Specifier: &corev3.DataSource_InlineBytes{InlineBytes: b}}
}

func encode(t testing.TB, m proto.Message) []byte {
	t.Helper()
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// refuses is what the Envoy under test cannot build a context of.
func refuses(c *tlsv3.TlsCertificate) (words string) {
	block, _ := pem.Decode(c.GetCertificateChain().GetInlineBytes())
	if block == nil {
		return "no certificate"
	}
	leaf, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return err.Error()
	}
	for _, e := range leaf.Extensions {
		if e.Id.String() == "1.3.6.1.5.5.7.1.24" && len(c.GetOcspStaple().GetInlineBytes()) == 0 {
			return mustStaple
		}
	}
	if leaf.KeyUsage&x509.KeyUsageDigitalSignature == 0 {
		return keyUsage
	}
	return ""
}
