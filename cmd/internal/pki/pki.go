// Package pki is a small certificate authority for those who have none. It issues the certificates
// with which lockstepd and its nodes prove to each other who they are. The certificates that hosts
// show to clients come from another CA.
//
// A directory holds ca.crt and ca.key. Each issued certificate has a folder of its own with
// tls.crt, tls.key and a copy of ca.crt, which is all that a machine needs. Keys are ECDSA P-256,
// PKCS#8, mode 0600.
package pki

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"time"
)

var (
	// ErrExists means that a file is there already and was not overwritten.
	ErrExists = errors.New("exists already; --force overwrites it")
	// ErrBadRequest means that no certificate can be made of the request. The text says what is
	// wrong.
	ErrBadRequest = errors.New("bad request for a certificate")
)

// These are the files of a directory.
const (
	CAFile, caKeyFile = "ca.crt", "ca.key"
	CertFile, KeyFile = "tls.crt", "tls.key"
)

const (
	caLifetime = 10 * 365 * 24 * time.Hour
	skew       = 5 * time.Minute // skew is how much clocks may differ.
)

// CA issues certificates.
type CA struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// Init makes a CA of that common name and writes it into dir.
func Init(dir, name string, force bool) (*CA, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: name}, NotBefore: now.Add(-skew),
		NotAfter: now.Add(caLifetime),
		IsCA:     true, BasicConstraintsValid: true, MaxPathLenZero: true, KeyUsage: x509.KeyUsageCertSign |
			x509.KeyUsageCRLSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	keyPEM, err := encodeKey(key)
	if err != nil {
		return nil, err
	}
	c := &CA{cert, key}
	return c, write(dir, force, file{caKeyFile, keyPEM, 0o600}, file{CAFile, c.PEM(), 0o644})
}

// Open reads the CA of a directory.
func Open(dir string) (*CA, error) {
	crt, err := os.ReadFile(filepath.Join(dir, CAFile))
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("there is no CA in %s: make one with: lockstep pki init --dir %s", dir, dir)
	}
	if err != nil {
		return nil, err
	}
	key, err := os.ReadFile(filepath.Join(dir, caKeyFile))
	if err != nil {
		return nil, fmt.Errorf("the CA's key: %w", err)
	}
	c := &CA{}
	if c.cert, err = parseCert(crt); err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Join(dir, CAFile), err)
	}
	if c.key, err = parseKey(key); err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Join(dir, caKeyFile), err)
	}
	if !c.key.PublicKey.Equal(c.cert.PublicKey) {
		return nil, fmt.Errorf("%s does not belong to %s", caKeyFile, filepath.Join(dir, CAFile))
	}
	return c, nil
}

// PEM returns the CA's certificate.
func (c *CA) PEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.cert.Raw})
}

// NotAfter is when the CA's certificate expires, and with it all that it issued.
func (c *CA) NotAfter() time.Time { return c.cert.NotAfter }

// Expiry returns when the certificate in a folder of Issue expires.
func Expiry(dir string) (time.Time, error) {
	cert, err := readCert(filepath.Join(dir, CertFile))
	if err != nil {
		return time.Time{}, err
	}
	return cert.NotAfter, nil
}

func parseCert(b []byte) (*x509.Certificate, error) {
	block, _ := pem.Decode(b)
	if block == nil || block.Type != "CERTIFICATE" {
		return nil, errors.New("it holds no certificate (PEM)")
	}
	return x509.ParseCertificate(block.Bytes)
}

func parseKey(b []byte) (*ecdsa.PrivateKey, error) {
	block, _ := pem.Decode(b)
	if block == nil {
		return nil, errors.New("it holds no PEM")
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	own, ok := key.(*ecdsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("it holds a key of another kind: %T", key)
	}
	return own, nil
}

func encodeKey(key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// serial has 127 random bits, since RFC 5280 §4.1.2.2 wants a positive number of at most 20 octets.
func serial() *big.Int {
	n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		panic(err) // crypto/rand does not fail
	}
	return n.Add(n, big.NewInt(1))
}
