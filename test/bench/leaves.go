package main

import (
	"archive/tar"
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"runtime"
	"time"

	"golang.org/x/sync/errgroup"
)

// scatter is prime to every size here: i*scatter mod n visits all names in an order that has nothing to do with theirs.
const scatter = 7_368_787

// leaves writes an archive of n certificates, each of its own name and serial number, with the chain of the bench's CA. They share a private key, since
// to make keys would take longer than all else.
func (b *bench) leaves(ctx context.Context, file string, n int) (err error) {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	s, err := b.signer()
	if err != nil {
		return err
	}
	chains := make([]chan []byte, runtime.NumCPU()) // in turn
	g, ctx := errgroup.WithContext(ctx)
	for w := range chains {
		chains[w] = make(chan []byte, 256)
		g.Go(func() error {
			defer close(chains[w])
			for i := w; i < n; i += len(chains) {
				chain, err := s.sign(i * scatter % n)
				if err != nil {
					return err
				}
				select {
				case chains[w] <- chain:
				case <-ctx.Done():
					return ctx.Err()
				}
			}
			return nil
		})
	}
	g.Go(func() error {
		buffered := bufio.NewWriterSize(f, 1<<20)
		w := tar.NewWriter(buffered)
		for i := range n {
			chain, ok := <-chains[i%len(chains)]
			if !ok {
				return nil // its error says why
			}
			for name, b := range map[string][]byte{"tls.crt": chain, "tls.key": s.keyPEM} {
				h := &tar.Header{Name: certName(i*scatter%n) + "/" + name, Size: int64(len(b)), Mode: 0o600}
				if err := w.WriteHeader(h); err != nil {
					return err
				}
				if _, err := w.Write(b); err != nil {
					return err
				}
			}
		}
		return errors.Join(w.Close(), buffered.Flush())
	})
	return g.Wait()
}

// signer makes leaves under the bench's names.
type signer struct {
	ca       *x509.Certificate
	caKey    *ecdsa.PrivateKey
	caPEM    []byte
	key      *ecdsa.PrivateKey
	keyPEM   []byte
	from, to time.Time
}

func (b *bench) signer() (*signer, error) {
	s := &signer{from: time.Now().Add(-time.Hour), to: time.Now().Add(90 * 24 * time.Hour)}
	var err error
	if s.caKey, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		return nil, err
	}
	if s.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		return nil, err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: s.from, NotAfter: s.to, IsCA: true, BasicConstraintsValid: true, SubjectKeyId: []byte("bench")}
	template.Subject.CommonName = "Lockstep bench CA"
	der, err := x509.CreateCertificate(rand.Reader, template, template, s.caKey.Public(), s.caKey)
	if err != nil {
		return nil, err
	}
	if s.ca, err = x509.ParseCertificate(der); err != nil {
		return nil, err
	}
	s.caPEM = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	pkcs8, err := x509.MarshalPKCS8PrivateKey(s.key)
	s.keyPEM = pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})
	return s, err
}

// sign returns the chain of the i-th name.
func (s *signer) sign(i int) ([]byte, error) {
	template := &x509.Certificate{
		SerialNumber: big.NewInt(int64(i) + 2), NotBefore: s.from, NotAfter: s.to, DNSNames: []string{certName(i)},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, s.ca, s.key.Public(), s.caKey)
	if err != nil {
		return nil, err
	}
	return append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), s.caPEM...), nil
}
