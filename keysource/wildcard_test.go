package keysource

import (
	"crypto/rand"
	"crypto/x509"
	"strings"
	"testing"
)

// covers is the slow reference, label by label: RFC 9525 §6.3, a star stands for one whole
// leftmost label.
func covers(pattern, name Name) bool {
	p, n := strings.Split(string(pattern), "."), strings.Split(string(name), ".")
	if len(p) != len(n) {
		return false
	}
	for i := range p {
		if i == 0 && p[i] == "*" && n[i] != "*" && len(p) > 2 {
			continue
		}
		if p[i] != n[i] {
			return false
		}
	}
	return true
}

func FuzzWildcard(f *testing.F) {
	for _, s := range [][2]string{
		{"*.example.com", "shop.example.com"}, {"*.example.com", "a.b.example.com"}, {"*.example.com", "example.com"},
		{"*.com", "example.com"},
		{"shop.example.com", "SHOP.example.com."}, {"*.example.com", "*.example.com"},
		{"*.bücher.example", "x.xn--bcher-kva.example"},
		{"*.example.com", "-.example.com"}, {"*.-a.example", "b-.-a.example"},
	} {
		f.Add(s[0], s[1])
	}
	f.Fuzz(func(t *testing.T, pattern, name string) {
		p, err := ServerName(pattern)
		if err != nil {
			return
		}
		n, err := ServerName(name)
		if err != nil {
			return
		}
		want := covers(p, n)
		if got := n == p || n.Wildcard() == p; got != want {
			t.Errorf("%q under %q: %t, the reference says %t", n, p, got, want)
		}
		if got := (Certificate{Names: []string{pattern}}).Covers(n); got != want {
			t.Errorf("a certificate for %q covers %q: %t, the reference says %t", pattern, n, got, want)
		}
		// What we would send for a name, a client must accept: the standard library's check agrees
		// wherever it says yes, but for a label that begins with a hyphen, which it takes for no
		// host name and browsers do ("-a.example.com" is in use).
		leaf := x509.Certificate{DNSNames: []string{string(p)}}
		if want && !strings.HasPrefix(string(n), "*.") && !strings.Contains("."+string(n), ".-") &&
			leaf.VerifyHostname(string(n)) != nil {
			t.Errorf("%q for %q would be refused by a client: %v", p, n, leaf.VerifyHostname(string(n)))
		}
	})
}

func FuzzParseTicketKey(f *testing.F) {
	good := make([]byte, TicketKeySize)
	rand.Read(good)
	f.Add(good)
	f.Add(good[:79])
	f.Add(good[:48])
	f.Add(make([]byte, TicketKeySize))
	f.Fuzz(func(t *testing.T, b []byte) {
		k, err := ParseTicketKey(b)
		if err == nil && (len(b) != TicketKeySize || string(k[:]) != string(b)) {
			t.Errorf("%d bytes became a key", len(b))
		}
		if err == nil && (Ring{Generation: 1, Keys: []TicketKey{k}}).Check() != nil {
			t.Error("a key that is let in does not make a ring")
		}
		if err != nil && len(b) >= 16 && strings.Contains(err.Error(), string(b)) {
			t.Errorf("the error quotes the key: %v", err)
		}
	})
}
