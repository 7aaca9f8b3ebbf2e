package keysource_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/lockstep-tls/lockstep/keysource"
)

func TestServerName(t *testing.T) {
	label := strings.Repeat("a", 63)
	long := strings.Repeat(label+".", 3) + strings.Repeat("b", 61) // 253
	for _, c := range []struct{ in, want string }{                 // want "": refused
		{"shop.example", "shop.example"},
		{"SHOP.Example", "shop.example"},
		{"shop.example.", "shop.example"},
		{"shop.example..", ""},
		{"shop..example", ""},
		{".shop.example", ""},
		{"localhost", "localhost"},
		{"7", "7"},
		{"", ""}, {".", ""}, {"..", ""}, {" ", ""}, {"shop.example ", ""}, {"shop example", ""},
		{"bücher.example", "xn--bcher-kva.example"},
		{"BÜCHER.example", "xn--bcher-kva.example"},
		{"xn--bcher-kva.example", "xn--bcher-kva.example"},
		{"faß.example", "xn--fa-hia.example"}, // non-transitional
		{"shop。example。", "shop.example"},
		{"shop.example。。", ""},
		{"Ｓｈｏｐ.example", "shop.example"},
		{"xn--a.example", ""}, {"xn--.example", ""}, {"xn--abc-.example", ""},
		{"r3---sn-a.example", "r3---sn-a.example"},
		{"_dmarc.example", "_dmarc.example"}, {"a_b.example", "a_b.example"}, {"A_B.Example.", "a_b.example"},
		{"_.example", "_.example"}, {"xn_-a.example", "xn_-a.example"}, {"a_b", "a_b"}, {"a_", "a_"},
		{"*.a_b.example", "*.a_b.example"}, {"a_b.bücher.example", "a_b.xn--bcher-kva.example"},
		{"bü_cher.example", ""},
		{"a_b。example", ""}, {"xn--a_b.example", ""}, {"xn--abc_-.example", ""}, {"a＿b.example", ""},
		{"1shop.example", "1shop.example"}, {"shop.1", "shop.1"},
		{label + ".example", label + ".example"},
		{label + "a.example", ""},
		{long, long},
		{long + ".", long},
		{long + "b", ""}, {long + "bb", ""}, {strings.Repeat("a", 70000), ""},
		{"*.example.com", "*.example.com"},
		{"*.EXAMPLE.com.", "*.example.com"},
		{"*.example", "*.example"},
		{"*.bücher.example", "*.xn--bcher-kva.example"},
		{"*." + long[2:], "*." + long[2:]},
		{"*." + long[1:], ""},
		{"*", ""}, {"*.", ""}, {"*..", ""}, {"**.example", ""}, {"*.*.example", ""}, {"a.*.example", ""},
		{"w*.example", ""}, {"＊.example", ""}, {"*。example", ""},
		{"127.0.0.1", "127.0.0.1"}, {"127.0.0.1.", "127.0.0.1"}, {"１２７.0.0.1", "127.0.0.1"}, {"1.2.3", "1.2.3"},
		{"::1", "::1"}, {"[::1]", "::1"}, {"2001:DB8:0:0::1", "2001:db8::1"}, {"::ffff:192.0.2.1", "192.0.2.1"},
		{"fe80::1%eth0", ""}, {"[::1", ""}, {"::1]", ""}, {"[127.0.0.1]", ""}, {"[::1]:443", ""}, {"::g", ""},
		{"*.::1", ""}, {"127.0.0.1/8", ""}, {"127.0.0.1:443", ""}, {"127.0.0.256", "127.0.0.256"},
		{"tickets/default", ""}, {"a/b.example", ""}, {"..", ""}, {"../etc", ""}, {`a\b`, ""}, {"a:443", ""},
		{"a?b", ""}, {"a%2e", ""},
		{"\x00", ""}, {"a\x00.example", ""}, {"\xff\xfe.example", ""}, {"a\n.example", ""}, {"\u200b", ""},
		{"a\u202eb.example", ""},
		{strings.Repeat("a.", 15) + "a", strings.Repeat("a.", 15) + "a"},
		{strings.Repeat("a.", 16) + "a", ""},
		{"*." + strings.Repeat("a.", 15) + "a", "*." + strings.Repeat("a.", 15) + "a"},
	} {
		got, err := keysource.ServerName(c.in)
		if string(got) != c.want || (err == nil) != (c.want != "") {
			t.Errorf("ServerName(%.80q) = %q, %v; want %q", c.in, got, err, c.want)
		}
		if err != nil && !errors.Is(err, keysource.ErrBadName) {
			t.Errorf("ServerName(%.80q): %v is no ErrBadName", c.in, err)
		}
		if err != nil && len(err.Error()) > 2000 {
			t.Errorf("ServerName(%.80q): an error of %d bytes", c.in, len(err.Error()))
		}
	}
}

func FuzzServerName(f *testing.F) {
	for _, s := range []string{"shop.example", "*.a.b", "BÜCHER.example.", "xn--bcher-kva", "a。b", "127.0.0.1",
		"0.0.0.0.0", "::1", "a_B.xn_-c", "tickets/default", "\xff", "ß.ς.\u200d"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		n, err := keysource.ServerName(s)
		if err != nil {
			if n != "" || !errors.Is(err, keysource.ErrBadName) {
				t.Fatalf("%q, %v", n, err)
			}
			return
		}
		if again, err := keysource.ServerName(string(n)); err != nil || again != n {
			t.Fatalf("%q became %q, and that %q, %v", s, n, again, err)
		}
		if a, ok := n.Address(); ok {
			if n != keysource.AddressName(a) || n.Wildcard() != "" || a.Is4In6() || a.Zone() != "" {
				t.Fatalf("%q became the address %q, with the wildcard %q", s, n, n.Wildcard())
			}
			return
		}
		host := strings.TrimPrefix(string(n), "*.")
		if host == "" || len(n) > 253 || strings.Trim(host, "abcdefghijklmnopqrstuvwxyz0123456789-_.") != "" {
			t.Fatalf("%q became %q", s, n)
		}
		for label := range strings.SplitSeq(host, ".") {
			if label == "" || len(label) > 63 {
				t.Fatalf("%q became %q", s, n)
			}
		}
		if w := n.Wildcard(); w != "" {
			if again, err := keysource.ServerName(string(w)); err != nil || again != w {
				t.Fatalf("wildcard %q of %q: %q, %v", w, n, again, err)
			}
		}
	})
}

func TestWildcard(t *testing.T) {
	for n, want := range map[keysource.Name]keysource.Name{
		"shop.example.com": "*.example.com", "a.b.example.com": "*.b.example.com", "example.com": "", "localhost": "",
		"*.example.com": "", "": "", "192.0.2.1": "", "2001:db8::1": "", "a_b.shop.example": "*.shop.example",
		"192.0.2.1.example": "*.0.2.1.example",
	} {
		if got := n.Wildcard(); got != want {
			t.Errorf("%q: %q, want %q", n, got, want)
		}
	}
}

func TestAChainAsksForItsHost(t *testing.T) {
	for _, n := range []keysource.Name{"shop.example", "*.blog.example"} {
		if _, err := keysource.ServerName(keysource.ChainName(n)); !errors.Is(err, keysource.ErrBadName) {
			t.Errorf("%s could be a server's name: %v", keysource.ChainName(n), err)
		}
		for _, resource := range []string{keysource.ChainName(n), string(n)} {
			if got, err := keysource.CertificateName(resource); err != nil || got != n {
				t.Errorf("%s asks for %s, %v", resource, got, err)
			}
		}
	}
	for _, none := range []string{"chain:chain:shop.example", "chain:sds://shop.example", "sds://sds://shop.example",
		"sds://chain:shop.example", "sds:shop.example", "sds://", "kubernetes://shop.example"} {
		if n, err := keysource.CertificateName(none); !errors.Is(err, keysource.ErrBadName) {
			t.Errorf("%s asks for %q, %v", none, n, err)
		}
	}
}

func TestIstioAsksWithAPrefix(t *testing.T) {
	for resource, want := range map[string]keysource.Name{"sds://shop.example": "shop.example",
		"sds://Shop.Example.": "shop.example", "sds://*.blog.example": "*.blog.example"} {
		if n, err := keysource.CertificateName(resource); err != nil || n != want {
			t.Errorf("%s asks for %q, %v, want %s", resource, n, err, want)
		}
		if n, err := keysource.ServerName(resource); !errors.Is(err, keysource.ErrBadName) {
			t.Errorf("%s could be the server's name %q: %v", resource, n, err)
		}
	}
}

func TestWordsOfBadNamesSayWhatIsWrong(t *testing.T) {
	for name, words := range map[string]string{
		"shop..example": "has an empty label", ".shop.example": "has an empty label", "": "has an empty label",
		strings.Repeat("a", 64) + ".example": "has a label of 64 bytes, at most 63",
		"fe80::1%eth0":                       "has a zone, which is no part of a certificate: leave out %eth0",
	} {
		if _, err := keysource.ServerName(name); err == nil || !strings.Contains(err.Error(), words) {
			t.Errorf("%q: %v, want %q", name, err, words)
		}
	}
}
