package probe

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"math/big"
	"strings"
	"testing"
)

// large is a certificate with an RSA key of so many bits, which nobody has.
func large(t *testing.T, bits int) []byte {
	t.Helper()
	n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), uint(bits-1)))
	if err != nil {
		t.Fatal(err)
	}
	n.SetBit(n.SetBit(n, bits-1, 1), 0, 1)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &rsa.PublicKey{N: n, E: 65537}, key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func TestAChainWithALargeRSAKeyIsNamed(t *testing.T) {
	cert, pool := certify(t)
	cert.Certificate = append(cert.Certificate, large(t, 9000))
	addr, _ := serve(t, cert, 1, func(*tls.Config) {})
	c := Config{Addrs: []string{addr}, SNI: host, RootCAs: pool}
	if _, err := Dial(t.Context(), addr, c, nil); !errors.Is(err, ErrLargeKey) {
		t.Errorf("%v", err)
	}
	p := NewProver().Prove(t.Context(), Subject{Addr: addr, Hosts: []Host{{Name: host}}, Keys: []string{keyID(1)}})
	if p.Finding != Unproved || !strings.Contains(p.Words, "too large") {
		t.Errorf("%+v", p)
	}
	t.Setenv("GODEBUG", "tlsmaxrsasize=16384") // as the program lockstep has it
	if m, err := Verify(t.Context(), c); err != nil || !m.OK() {
		t.Errorf("%+v, %v", m, err)
	}
}
