package renewal_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/keysource/renewal"
)

var now = time.Date(2030, 6, 1, 12, 0, 0, 0, time.UTC)

// authority is a CA, and what leads to it.
type authority struct {
	cert  *x509.Certificate
	key   crypto.Signer
	above []*x509.Certificate
}

func newKey(t *testing.T) crypto.Signer {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

var serial = big.NewInt(100)

func sign(t *testing.T, tmpl, ca *x509.Certificate, pub crypto.PublicKey, key crypto.Signer) *x509.Certificate {
	t.Helper()
	serial = new(big.Int).Add(serial, big.NewInt(1))
	tmpl.SerialNumber = serial
	der, err := x509.CreateCertificate(rand.Reader, tmpl, ca, pub, key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func caTemplate(name string) *x509.Certificate {
	return &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, NotBefore: now.AddDate(-1, 0, 0), NotAfter: now.AddDate(5, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
}

func root(t *testing.T, name string) authority {
	key := newKey(t)
	tmpl := caTemplate(name)
	return authority{cert: sign(t, tmpl, tmpl, key.Public(), key), key: key}
}

// below makes an intermediate, whose chain has the issuer only if that is no root.
func (a authority) below(t *testing.T, name string) authority {
	key := newKey(t)
	return a.crossSign(t, name, key)
}

func (a authority) crossSign(t *testing.T, name string, key crypto.Signer) authority {
	c := sign(t, caTemplate(name), a.cert, key.Public(), a.key)
	return authority{cert: c, key: key, above: append([]*x509.Certificate{c}, a.above...)}
}

// leaf issues a certificate of ninety days for names, which begins a month ago and sends the whole
// chain.
func (a authority) leaf(t *testing.T, key crypto.Signer, change func(*x509.Certificate), names ...string,
) keysource.Certificate {
	t.Helper()
	tmpl := &x509.Certificate{
		DNSNames: names, NotBefore: now.AddDate(0, -1, 0), NotAfter: now.AddDate(0, 2, 0),
		KeyUsage: x509.KeyUsageDigitalSignature,
	}
	if change != nil {
		change(tmpl)
	}
	chain := append([]*x509.Certificate{sign(t, tmpl, a.cert, key.Public(), a.key)}, a.above...)
	return parse(t, key, chain...)
}

func parse(t *testing.T, key crypto.Signer, chain ...*x509.Certificate) keysource.Certificate {
	t.Helper()
	var p keysource.PEM
	for _, c := range chain {
		p.Chain = append(p.Chain, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	p.Key = pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	c, err := keysource.ParseCertificate(p, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// cut leaves the first n certificates of a chain.
func cut(t *testing.T, c keysource.Certificate, n int) keysource.Certificate {
	t.Helper()
	var p keysource.PEM
	p.Key = c.Key
	rest := c.Chain
	for range n {
		var block *pem.Block
		block, rest = pem.Decode(rest)
		p.Chain = append(p.Chain, pem.EncodeToMemory(block)...)
	}
	out, err := keysource.ParseCertificate(p, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func from(at time.Time) func(*x509.Certificate) {
	return func(c *x509.Certificate) { c.NotBefore, c.NotAfter = at, at.AddDate(0, 3, 0) }
}

func TestWhatCannotServeLeavesTheOneBefore(t *testing.T) {
	ca := root(t, "Root").below(t, "Intermediate")
	key := newKey(t)
	was := ca.leaf(t, key, nil, "a.example")

	soon := ca.leaf(t, key, from(now.Add(7*time.Second)), "a.example")
	v := renewal.Judge(was, soon, now)
	if !strings.Contains(v.Keep, "not valid before") || !v.Until.Equal(now.Add(7*time.Second)) {
		t.Errorf("not valid yet: %+v", v)
	}
	if v := renewal.Judge(was, soon, v.Until); v.Keep != "" || len(v.Warnings) > 0 {
		t.Errorf("when it has become valid: %+v", v)
	}
	over := ca.leaf(t, key, func(c *x509.Certificate) { c.NotAfter = now.Add(-time.Second) }, "a.example")
	if v := renewal.Judge(over, soon, now); v.Keep != "" {
		t.Errorf("one that has expired stays: %+v", v)
	}

	alone := cut(t, ca.leaf(t, key, from(now), "a.example"), 1)
	v = renewal.Judge(was, alone, now)
	if !strings.Contains(v.Keep, `without the intermediate "CN=Intermediate"`) || !v.Until.After(was.NotAfter) {
		t.Errorf("without its intermediate: %+v", v)
	}
	if v := renewal.Judge(was, alone, v.Until); v.Keep != "" || !v.Shorter || len(v.Warnings) == 0 {
		t.Errorf("when the one before has expired: %+v", v)
	}
	up, lateKey := root(t, "Root"), newKey(t)
	tmpl := caTemplate("Later")
	tmpl.NotBefore = now.Add(time.Minute)
	c := sign(t, tmpl, up.cert, lateKey.Public(), up.key)
	late := authority{c, lateKey, []*x509.Certificate{c}}
	if v := renewal.Judge(was, late.leaf(t, key, nil, "a.example"), now); !v.Until.Equal(now.Add(time.Minute)) {
		t.Errorf("an intermediate that is not valid yet: %+v", v)
	}
}

func TestWhatLooksWorseIsServedWithAWarning(t *testing.T) {
	top := root(t, "Root")
	ca := top.below(t, "Intermediate")
	key := newKey(t)
	small, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	large, err := rsa.GenerateKey(rand.Reader, 3072)
	if err != nil {
		t.Fatal(err)
	}
	old := root(t, "Old root")
	cross := old.crossSign(t, "Root", top.key)
	long := authority{ca.cert, ca.key, []*x509.Certificate{ca.cert, cross.cert}}
	withIP := func(c *x509.Certificate) {
		from(now)(c)
		c.IPAddresses = []net.IP{net.IPv4(192, 0, 2, 1)}
	}
	was := ca.leaf(t, key, nil, "a.example", "*.b.example")
	for name, c := range map[string]struct {
		was, next keysource.Certificate
		words     []string // one in each warning; none says that it is right
		shorter   bool
	}{
		"renewed":           {was, ca.leaf(t, key, from(now), "a.example", "*.b.example"), nil, false},
		"with a new key":    {was, ca.leaf(t, newKey(t), from(now), "a.example", "*.b.example"), nil, false},
		"names in disorder": {was, ca.leaf(t, key, from(now), "*.b.example", "A.example"), nil, false},
		"more names":        {was, ca.leaf(t, key, withIP, "a.example", "*.b.example", "c.example"), nil, false},
		"by another sibling": {
			was, top.below(t, "Second").leaf(t, key, from(now), "a.example", "*.b.example"), nil, false,
		},
		"a longer chain":    {was, long.leaf(t, key, from(now), "a.example", "*.b.example"), nil, false},
		"a root at the end": {was, parse(t, key, append(raw(t, was), top.cert)...), nil, false},
		"the root left out": {parse(t, key, append(raw(t, was), top.cert)...), was, nil, false},
		"fewer names":       {was, ca.leaf(t, key, from(now), "a.example"), []string{"not for *.b.example"}, false},
		"a name for wildcard": {
			was, ca.leaf(t, key, from(now), "a.example", "x.b.example"), []string{"*.b.example"}, false,
		},
		"wildcard for a name": {
			ca.leaf(t, key, nil, "x.b.example"), ca.leaf(t, key, from(now), "*.b.example"), nil, false,
		},
		"fewer addresses": {
			ca.leaf(t, key, withIP, "a.example"), ca.leaf(t, key, from(now), "a.example"), []string{"192.0.2.1"}, false,
		},
		"another kind of key": {
			was, ca.leaf(t, small, from(now), "a.example", "*.b.example"),
			[]string{"RSA of 2048 bits, before ECDSA on P-256"}, false,
		},
		"a smaller key": {
			ca.leaf(t, large, nil, "a.example"), ca.leaf(t, small, from(now), "a.example"), []string{"weaker"}, false,
		},
		"another CA": {
			was, root(t, "Else").below(t, "Else int").leaf(t, key, from(now), "a.example", "*.b.example"),
			[]string{`"CN=Else", before "CN=Root"`}, false,
		},
		"a CA of the same name": {
			was, root(t, "Root").below(t, "Intermediate").leaf(t, key, from(now), "a.example", "*.b.example"),
			[]string{"another key"}, false,
		},
		"an older one": {
			ca.leaf(t, key, from(now.AddDate(0, 0, -1)), "a.example", "*.b.example"), was,
			[]string{"may be an older one"}, false,
		},
		"a cross-certificate dropped": {
			long.leaf(t, key, nil, "a.example"), ca.leaf(t, key, from(now), "a.example"),
			[]string{`became shorter: it has 1 intermediates, before 2, and lacks "CN=Root"; that is right only if ` +
				`all clients have "CN=Root"`}, true,
		},
		"a leaf of a CA without intermediates": {
			was, top.leaf(t, key, from(now), "a.example", "*.b.example"), []string{"became shorter"}, true,
		},
		"worse in three ways": {
			was, root(t, "Else").leaf(t, small, from(now), "a.example"),
			[]string{"became shorter", "not for *.b.example", "RSA of 2048", `"CN=Else"`}, true,
		},
	} {
		v := renewal.Judge(c.was, c.next, now)
		if v.Keep != "" || v.Shorter != c.shorter || len(v.Warnings) != len(c.words) {
			t.Errorf("%s: %+v", name, v)
			continue
		}
		for _, word := range c.words {
			if !slices.ContainsFunc(v.Warnings, func(w string) bool { return strings.Contains(w, word) }) {
				t.Errorf("%s: no warning with %q: %q", name, word, v.Warnings)
			}
		}
	}
	if v := renewal.Judge(was, was, now); v.Keep != "" || v.Shorter || v.Warnings != nil {
		t.Errorf("the same: %+v", v)
	}
}

func raw(t *testing.T, c keysource.Certificate) (out []*x509.Certificate) {
	for block, rest := pem.Decode(c.Chain); block != nil; block, rest = pem.Decode(rest) {
		one, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, one)
	}
	return out
}

func TestWhatLooksWrongInItselfIsWarnedOf(t *testing.T) {
	ca := root(t, "Root").below(t, "Intermediate")
	small, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	located := func(c *x509.Certificate) { c.IssuingCertificateURL = []string{"http://ca.example/int.crt"} }
	encipher := func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageKeyEncipherment }
	for name, c := range map[string]struct {
		cert  keysource.Certificate
		words string
	}{
		"right":                      {ca.leaf(t, small, located, "a.example"), ""},
		"a leaf of a private CA":     {cut(t, ca.leaf(t, small, nil, "a.example"), 1), ""},
		"a leaf that lacks its CA":   {cut(t, ca.leaf(t, small, located, "a.example"), 1), "the leaf alone"},
		"an RSA key that only wraps": {ca.leaf(t, small, encipher, "a.example"), "lacks digitalSignature"},
	} {
		got := strings.Join(renewal.First(c.cert), "; ")
		if (got == "") != (c.words == "") || !strings.Contains(got, c.words) {
			t.Errorf("%s: %q", name, got)
		}
	}
	if got := keysource.NotYet(now.Add(time.Second), now); !strings.Contains(got, "not valid before") {
		t.Errorf("not valid yet: %q", got)
	}
	if got := keysource.NotYet(now, now); got != "" {
		t.Errorf("valid: %q", got)
	}
}
