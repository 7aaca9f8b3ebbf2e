package keysource

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"strings"
	"testing"
	"time"
)

// caPEM returns a CA certificate.
func caPEM(t *testing.T) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

// The clients of a CA that is lost are turned away.
func TestNoClientCAIsDroppedInSilence(t *testing.T) {
	a, b := caPEM(t), caPEM(t)
	for _, c := range []struct {
		text string
		cas  int
		want string // of the error
	}{
		{a + b, 2, ""},
		{"# ours\n" + b + "\n\n" + a + b, 2, ""},
		{"\uFEFF" + strings.ReplaceAll(a+b, "\n", "\r\n"), 2, ""},
		{strings.TrimSuffix(a, "\n") + b, 2, ""},
		{a + b[:len(b)/2], 0, "broken or cut short after block 1"},
		{a + strings.Replace(b, "M", "!", 1), 0, "broken or cut short after block 1"},
		{strings.Replace(a, "M", "!", 1) + b, 0, "broken or cut short"},
		{a + "-----BEGIN CERT", 0, "broken or cut short after block 1"},
		{a + "-----BEGIN PRIVATE KEY-----\nMA==\n-----END PRIVATE KEY-----\n", 0, "PRIVATE KEY"},
		{"hello", 0, "no certificate"},
	} {
		all, err := ParseAuthorities([]byte(c.text))
		if len(all) != c.cas || (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%d CAs and %v, want %d and %q, of\n%s", len(all), err, c.cas, c.want, c.text)
		}
	}
}

func TestAClientCAIsGivenToEnvoyAsEnvoyReadsIt(t *testing.T) {
	a, b := caPEM(t), caPEM(t)
	for text, want := range map[string]bool{
		a: true, "# ours\n" + a: true, a + a: true, strings.ReplaceAll(a, "\n", "\r\n"): true, a + b: false,
		"\uFEFF" + a: false, "  " + strings.ReplaceAll(a, "\n", "\n  "): false,
		"\xff\xfe" + strings.Join(strings.Split(a, ""), "\x00") + "\x00": false,
	} {
		all, err := ParseAuthorities([]byte(text))
		if err != nil {
			t.Fatalf("%v: %q", err, text)
		}
		if got := all.AsIs([]byte(text)); got != want {
			t.Errorf("%v, want %v: %q", got, want, text)
		}
		if !want && len(all) == 1 && !all.AsIs(all.PEM()) {
			t.Errorf("not even once it is mended: %q", text)
		}
	}
}
