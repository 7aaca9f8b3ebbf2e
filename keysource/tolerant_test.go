package keysource_test

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf16"

	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/keysource/internal/testca"
)

func utf16le(b []byte) []byte {
	out := []byte{0xff, 0xfe}
	for _, u := range utf16.Encode([]rune(string(b))) {
		out = append(out, byte(u), byte(u>>8))
	}
	return out
}

func utf16be(b []byte) []byte {
	out := utf16le(b)
	for i := 0; i < len(out); i += 2 {
		out[i], out[i+1] = out[i+1], out[i]
	}
	return out
}

func label(b []byte, as string) []byte {
	return bytes.ReplaceAll(b, []byte("CERTIFICATE-"), []byte(as+"-"))
}

// cross makes a certificate of ca's name and key that by signed.
func cross(t *testing.T, ca, by testca.CA, edit func(*x509.Certificate)) []byte {
	t.Helper()
	tmpl := &x509.Certificate{SerialNumber: ca.Cert.SerialNumber, Subject: ca.Cert.Subject, IsCA: true,
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign, NotBefore: testca.NotBefore,
		NotAfter: testca.NotAfter}
	edit(tmpl)
	der, err := x509.CreateCertificate(nil, tmpl, by.Cert, ca.Key.Public(), by.Key)
	check(t, err)
	return block("CERTIFICATE", der)
}

// What every client would read is sent in one form, whatever form it came in, and a note says what
// was done.
func TestWhatEveryClientReadsIsPutInOrderWithANote(t *testing.T) {
	ca := testca.New(t)
	inter := ca.Intermediate(t)
	leaf, key := inter.Issue(t, "shop.example")
	chain := join(leaf, inter.PEM)
	older := testca.New(t)
	crossed := cross(t, ca, older, func(*x509.Certificate) {})
	expired := cross(t, inter, ca, func(c *x509.Certificate) { c.NotAfter = now.Add(-time.Hour) })
	shorter := cross(t, inter, ca, func(c *x509.Certificate) { c.NotAfter = now.Add(time.Hour) })
	csr, err := x509.CreateCertificateRequest(nil, &x509.CertificateRequest{}, testca.Key(t))
	check(t, err)
	crlf := func(b []byte) []byte { return bytes.ReplaceAll(b, []byte("\n"), []byte("\r\n")) }
	bom := []byte("\xef\xbb\xbf")
	indent := func(b []byte) []byte { return bytes.ReplaceAll(b, []byte("\n"), []byte("\n    ")) }
	_, otherKey := ca.Issue(t, "other.example")

	for name, c := range map[string]struct {
		chain, key []byte
		want       []byte
		note       string // of which one note has the words; none if it is empty
	}{
		"as it should be":          {chain, key, chain, ""},
		"CRLF":                     {crlf(chain), crlf(key), chain, ""},
		"a byte order mark":        {join(bom, chain), join(bom, key), chain, "byte order mark"},
		"one in the middle":        {join(leaf, bom, inter.PEM), key, chain, "byte order mark"},
		"UTF-16":                   {utf16le(chain), utf16le(key), chain, "UTF-16"},
		"UTF-16, big-endian":       {utf16be(chain), key, chain, "UTF-16"},
		"UTF-16 without a mark":    {utf16le(chain)[2:], key, chain, "UTF-16"},
		"UTF-16 and CRLF":          {utf16le(crlf(chain)), key, chain, "UTF-16"},
		"CR":                       {bytes.ReplaceAll(chain, []byte("\n"), []byte("\r")), key, chain, `end with \r`},
		"no line break in between": {join(bytes.TrimSpace(leaf), inter.PEM), key, chain, "line break between"},
		"indented":                 {indent(join([]byte("x:\n"), chain)), key, chain, "indented"},
		"X509 CERTIFICATE":         {label(chain, "X509 CERTIFICATE"), key, chain, "label X509 CERTIFICATE"},
		"an intermediate so":       {join(leaf, label(inter.PEM, "X509 CERTIFICATE")), key, chain, "label X509"},
		"an unknown label":         {join(leaf, label(inter.PEM, "CA CERT")), key, chain, `"CA CERT"`},
		"leaf twice":               {join(leaf, leaf, inter.PEM), key, chain, "certificate 1 is certificate 0 again"},
		"everything twice":         {join(chain, chain), key, chain, "certificate 3 is certificate 1 again"},
		"root twice": {join(chain, ca.PEM, ca.PEM), key, join(chain, ca.PEM),
			"3 is certificate 2 again"},
		"a root at the end":   {join(chain, ca.PEM), key, join(chain, ca.PEM), ""},
		"intermediate first":  {join(inter.PEM, leaf), key, chain, "sent as certificates 1, 0"},
		"backwards":           {join(ca.PEM, inter.PEM, leaf), key, join(chain, ca.PEM), "certificates 2, 1, 0"},
		"upper links swapped": {join(leaf, ca.PEM, inter.PEM), key, join(chain, ca.PEM), "certificates 0, 2, 1"},
		"a root beside its cross": {join(chain, crossed, ca.PEM), key, join(chain, crossed),
			"a root, which clients have"},
		"the same, and their roots": {join(chain, crossed, ca.PEM, older.PEM), key, join(chain, crossed, older.PEM),
			"a root"},
		"an issuer renewed":     {join(leaf, shorter, inter.PEM), key, chain, "valid for longer"},
		"an expired one beside": {join(leaf, expired, inter.PEM), key, chain, "is not valid now"},
		"a request beside": {join(block("CERTIFICATE REQUEST", csr), chain), key, chain,
			"CERTIFICATE REQUEST"},
		"DH parameters beside": {join(chain, block("DH PARAMETERS", []byte{0x30, 0})), key, chain,
			"DH PARAMETERS: it is left out"},
		"one file":              {join(chain, key), nil, chain, ""},
		"one file, key first":   {join(key, chain), nil, chain, ""},
		"one file, given twice": {join(key, chain), join(key, chain), chain, ""},
		"two private keys":      {chain, join(otherKey, key), chain, "2 private keys"},
		"a key in the chain":    {join(chain, otherKey), key, chain, "it is not used"},
	} {
		got, err := keysource.ParseCertificate(keysource.PEM{Chain: c.chain, Key: c.key}, now)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if !bytes.Equal(got.Chain, c.want) || !bytes.Equal(got.Key, key) {
			t.Errorf("%s: sent is %s", name, got.Chain)
		}
		all := strings.Join(got.Notes, "; ")
		if c.note == "" && all != "" || !strings.Contains(all, c.note) {
			t.Errorf("%s: the notes are %q, want %q", name, all, c.note)
		}
		again, err := keysource.ParseCertificate(got.PEM, now)
		if err != nil || again.Version() != got.Version() || len(again.Notes) > 0 {
			t.Errorf("%s: what is sent is not in order: %v, %q", name, err, again.Notes)
		}
		if err := keysource.CheckChain(c.chain, "shop.example", now); err != nil {
			t.Errorf("%s: a plan refuses it: %v", name, err)
		}
		plan, err := keysource.ResumptionContext(c.chain, "shop.example")
		check(t, err)
		sent, err := keysource.ResumptionContext(got.Chain, "shop.example")
		if check(t, err); plan.Fingerprint != sent.Fingerprint {
			t.Errorf("%s: a plan takes another certificate for the leaf: %+v", name, plan)
		}
	}
}

// Nothing is dropped unseen, and no choice is made that some client would make differently.
func TestWhatIsAmbiguousIsRefusedByName(t *testing.T) {
	ca, older := testca.New(t), testca.New(t)
	inter := ca.Intermediate(t)
	leaf, key := inter.Issue(t, "shop.example")
	foreign, _ := older.Issue(t, "bank.example")
	renewed, _ := inter.Issue(t, "shop.example")
	chain := join(leaf, inter.PEM)
	branch := cross(t, inter, older, func(*x509.Certificate) {})
	short := append([]byte{0x30, 50}, make([]byte, 50)...) // a key of Ed25519 has so many bytes
	pkcs7 := []byte("\x30\x82\x01\x00\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x02\xa0")
	for name, c := range map[string]struct {
		chain, key []byte
		words      string
	}{
		"two branches": {join(leaf, inter.PEM, branch), key, "certificates 1 and 2 are both of"},
		"two branches and their roots": {join(leaf, inter.PEM, ca.PEM, branch, older.PEM), key,
			"keep the one that your clients need"},
		"another host's": {join(chain, foreign), key, "certificate 2 (\"\") has no part in the chain"},
		"a second leaf":  {join(leaf, renewed, inter.PEM), key, "certificate 1 (\"\") has no part in the chain"},
		"a missing link": {join(leaf, ca.PEM), key, "has no part in the chain of the leaf"},
		"an unknown label": {join(chain, block("SOMETHING", []byte("x"))), key,
			`block 2 has the unknown label "SOMETHING"`},
		"a key's": {chain, join(block("SOMETHING", []byte("x")), key),
			`block 0 has the unknown label "SOMETHING"`},
		"an OpenSSH key": {chain, block("OPENSSH PRIVATE KEY", []byte("x")), `"OPENSSH PRIVATE KEY", OpenSSH's own`},
		"PKCS#7":         {block("PKCS7", []byte("x")), key, "openssl pkcs7 -in FILE -print_certs"},
		"escaped": {bytes.ReplaceAll(chain, []byte("\n"), []byte(`\n`)), key,
			`line breaks are written as \n`},
		"DER":                {inter.Cert.Raw, key, "it is DER: convert it"},
		"a key in DER":       {chain, short, "no PRIVATE KEY block in the PEM: it is DER: convert it"},
		"PKCS#7 of Windows":  {block("CERTIFICATE", pkcs7), key, "block 0 is PKCS#7 under the label CERTIFICATE"},
		"a Java keystore":    {[]byte("\xfe\xed\xfe\xed\x00\x00"), key, "keytool -importkeystore"},
		"only a request":     {block("CERTIFICATE REQUEST", []byte("x")), key, "it has CERTIFICATE REQUEST"},
		"chain for the key":  {chain, chain, "no PRIVATE KEY block in the PEM: it has CERTIFICATE"},
		"key for the chain":  {key, key, "no CERTIFICATE block in the PEM: it has PRIVATE KEY"},
		"a UTF-16 cut short": {utf16le(chain[:len(chain)-100]), key, "broken or cut short"},
	} {
		_, err := keysource.ParseCertificate(keysource.PEM{Chain: c.chain, Key: c.key}, now)
		if !errors.Is(err, keysource.ErrBadCertificate) || !strings.Contains(err.Error(), c.words) {
			t.Errorf("%s: %v, want %q", name, err, c.words)
		}
	}
}

// openssl's own programs write these forms, and verify what would be sent.
func TestWhatOpenSSLWritesIsTaken(t *testing.T) {
	if _, err := exec.LookPath("openssl"); err != nil {
		t.Skip("no openssl")
	}
	ca := testca.New(t)
	inter := ca.Intermediate(t)
	leaf, key := inter.Issue(t, "shop.example")
	dir := t.TempDir()
	file := func(name string, parts ...[]byte) string {
		path := filepath.Join(dir, name)
		check(t, os.WriteFile(path, join(parts...), 0o600))
		return path
	}
	openssl := func(args ...string) []byte {
		t.Helper()
		out, err := exec.Command("openssl", args...).Output()
		if err != nil {
			t.Fatalf("openssl %v: %v", args, err)
		}
		return out
	}
	l, i, k := file("leaf", leaf), file("inter", inter.PEM), file("key", key)
	p12 := filepath.Join(dir, "p12")
	openssl("pkcs12", "-export", "-in", l, "-certfile", i, "-inkey", k, "-passout", "pass:", "-name", "shop",
		"-out", p12)
	bags := openssl("pkcs12", "-in", p12, "-passin", "pass:", "-nodes")
	if !bytes.Contains(bags, []byte("Bag Attributes")) {
		t.Fatalf("no bag attributes: %s", bags)
	}
	trusted := openssl("x509", "-in", i, "-trustout", "-addtrust", "serverAuth", "-setalias", "x")
	p7 := openssl("crl2pkcs7", "-nocrl", "-certfile", l, "-certfile", i)
	text := openssl("x509", "-in", l, "-text")
	for name, p := range map[string]keysource.PEM{
		"bag attributes":      {Chain: bags},
		"TRUSTED CERTIFICATE": {Chain: join(leaf, trusted), Key: key},
		"a trusted leaf":      {Chain: join(openssl("x509", "-in", l, "-trustout"), inter.PEM), Key: key},
		"text":                {Chain: join(text, inter.PEM), Key: key},
	} {
		c, err := keysource.ParseCertificate(p, now)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if !bytes.Equal(c.Chain, join(leaf, inter.PEM)) {
			t.Errorf("%s: sent is %s", name, c.Chain)
		}
		first, rest := pem.Decode(c.Chain)
		out := openssl("verify", "-CAfile", file("root", ca.PEM), "-untrusted", file("rest", rest),
			file("first", pem.EncodeToMemory(first)))
		if !bytes.Contains(out, []byte(": OK")) {
			t.Errorf("%s: %s", name, out)
		}
	}
	_, err := keysource.ParseCertificate(keysource.PEM{Chain: p7, Key: key}, now)
	if err == nil || !strings.Contains(err.Error(), "PKCS#7") {
		t.Errorf("PKCS#7: %v", err)
	}
	c, err := keysource.ParseCertificate(keysource.PEM{
		Chain: openssl("pkcs7", "-in", file("p7", p7), "-print_certs"), Key: key,
	}, now)
	if check(t, err); !bytes.Equal(c.Chain, join(leaf, inter.PEM)) {
		t.Errorf("as the error of PKCS#7 says, sent is %s", c.Chain)
	}
	if notes := c.Notes; slices.ContainsFunc(notes, func(s string) bool { return strings.Contains(s, "left out") }) {
		t.Errorf("something was left out: %q", notes)
	}
}
