package fleet

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"time"
)

// CA issues certificates for tests. It is safe for concurrent use.
type CA struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// Leaf is what a certificate is to be issued for; it is good for servers and clients.
type Leaf struct {
	Names []string      // DNS names
	IPs   []string      // IP addresses
	URIs  []string      // SPIFFE IDs
	Valid time.Duration // from now, negative for an expired one; 0: 24 h
	RSA   bool          // the key is RSA-2048 instead of ECDSA P-256
	Usage x509.KeyUsage // what the key may be used for; 0: digital signatures

	Organization string // of the subject; "": it has none
	MustStaple   bool   // it has the TLS feature extension: Envoy refuses it without a staple

	Change func(*x509.Certificate) // changes what is issued; nil changes nothing
}

// Pair is a certificate chain, leaf first, and its private key (PKCS#8), both PEM.
type Pair struct{ Chain, Key []byte }

// NewCA returns a CA of that common name, which is the issuer name of what it issues.
func NewCA(name string) (*CA, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("fleet: CA: %w", err)
	}
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: name},
		NotBefore:             time.Now().Add(-48 * time.Hour),
		NotAfter:              time.Now().Add(10 * 365 * 24 * time.Hour),
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("fleet: CA: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("fleet: CA: %w", err)
	}
	return &CA{cert, key}, nil
}

// Intermediate returns a CA of that common name, whose certificate c has issued.
func (c *CA) Intermediate(name string) (*CA, error) {
	sub, err := NewCA(name)
	if err != nil {
		return nil, err
	}
	template := *sub.cert
	template.AuthorityKeyId = nil
	der, err := x509.CreateCertificate(rand.Reader, &template, c.cert, sub.key.Public(), c.key)
	if err == nil {
		sub.cert, err = x509.ParseCertificate(der)
	}
	if err != nil {
		return nil, fmt.Errorf("fleet: intermediate: %w", err)
	}
	return sub, nil
}

// PEM is the CA's own certificate.
func (c *CA) PEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.cert.Raw})
}

// Pool trusts the CA and nobody else.
func (c *CA) Pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(c.cert)
	return p
}

// Issue makes a new key and a certificate for it.
func (c *CA) Issue(l Leaf) (Pair, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return Pair{}, fmt.Errorf("fleet: issue: %w", err)
	}
	if l.Valid == 0 {
		l.Valid = 24 * time.Hour
	}
	if l.Usage == 0 {
		l.Usage = x509.KeyUsageDigitalSignature
	}
	template := &x509.Certificate{
		SerialNumber: serial,
		NotBefore:    time.Now().Add(-24 * time.Hour),
		NotAfter:     time.Now().Add(l.Valid),
		DNSNames:     l.Names,
		KeyUsage:     l.Usage,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	if l.Organization != "" {
		template.Subject.Organization = []string{l.Organization}
	}
	if l.MustStaple { // RFC 7633: status_request
		template.ExtraExtensions = []pkix.Extension{
			{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 1, 24}, Value: []byte{0x30, 3, 2, 1, 5}},
		}
	}
	for _, s := range l.IPs {
		ip := net.ParseIP(s)
		if ip == nil {
			return Pair{}, fmt.Errorf("fleet: issue: %q is not an IP address", s)
		}
		template.IPAddresses = append(template.IPAddresses, ip)
	}
	for _, s := range l.URIs {
		u, err := url.Parse(s)
		if err != nil {
			return Pair{}, fmt.Errorf("fleet: issue: %w", err)
		}
		template.URIs = append(template.URIs, u)
	}
	if l.Change != nil {
		l.Change(template)
	}
	key, err := newKey(l.RSA)
	if err != nil {
		return Pair{}, fmt.Errorf("fleet: issue: %w", err)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, c.cert, key.Public(), c.key)
	if err != nil {
		return Pair{}, fmt.Errorf("fleet: issue: %w", err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return Pair{}, fmt.Errorf("fleet: issue: %w", err)
	}
	return Pair{
		Chain: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		Key:   pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}),
	}, nil
}

func newKey(ofRSA bool) (crypto.Signer, error) {
	if ofRSA {
		return rsa.GenerateKey(rand.Reader, 2048)
	}
	return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
}
