package keysource

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestPEMIsWrittenAsTheStandardLibraryWritesIt(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		der := rapid.SliceOfN(rapid.Byte(), 1, 300).Draw(t, "DER")
		want := pem.EncodeToMemory(&pem.Block{Type: typeCert, Bytes: der})
		got := appendPEM(nil, typeCert, der)
		if !bytes.Equal(got, want) {
			t.Fatalf("%d bytes: %q, want %q", len(der), got, want)
		}
		if sizePEM(typeCert, der) != len(got) {
			t.Fatalf("%d bytes: a size of %d, %d were written", len(der), sizePEM(typeCert, der), len(got))
		}
	})
}

// selfSigned returns a certificate of key, as PEM, and key in PKCS#8.
func selfSigned(t *testing.T, key crypto.Signer) (chain, pkcs8 []byte) {
	t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour),
		DNSNames: []string{"shop.example"}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	if pkcs8, err = x509.MarshalPKCS8PrivateKey(key); err != nil {
		t.Fatal(err)
	}
	return appendPEM(nil, typeCert, der), pkcs8
}

func TestAKeyIsSentAsItWouldBeWrittenAnew(t *testing.T) {
	p256, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	_, ed, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, key := range map[string]crypto.Signer{"P-256": p256, "P-384": p384, "Ed25519": ed} {
		chain, want := selfSigned(t, key)
		block, _ := pem.Decode(chain)
		leaf, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		if plainP256(want, leaf) != (name == "P-256") {
			t.Errorf("%s: taken for a plain key on P-256, or not", name)
		}
		for i := range append(want, 0) { // a bit of it is another one, or there is a byte more
			odd := append(bytes.Clone(want), 0)
			if i < len(want) {
				odd = bytes.Clone(want)
				odd[i] ^= 1
			}
			_, der, err := ParseDER(PEM{Chain: chain, Key: appendPEM(nil, typeKey, odd)}, time.Time{})
			if err == nil && !bytes.Equal(der.Key, want) {
				t.Errorf("%s: with byte %d of %d changed, it is sent as it came", name, i, len(want))
			}
		}
		c, der, err := ParseDER(PEM{Chain: chain, Key: appendPEM(nil, typeKey, want)}, time.Time{})
		if err != nil || !bytes.Equal(der.Key, want) {
			t.Errorf("%s: %v", name, err)
		}
		if p := der.PEM(); !bytes.Equal(p.Chain, c.Chain) || !bytes.Equal(p.Key, c.Key) {
			t.Errorf("%s: the DER is of another certificate than the PEM", name)
		}
	}
}
