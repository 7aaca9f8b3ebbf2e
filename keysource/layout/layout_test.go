package layout

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/lockstep-tls/lockstep/keysource"
)

func TestEachLayoutIsFound(t *testing.T) {
	for files, want := range map[string]string{
		"ca.crt tls.crt tls.key":                                             "tls.crt tls.key",
		"tls.key tls-combined.pem tls.crt key.der":                           "tls.crt tls.key",
		"README cert.pem chain.pem fullchain.pem privkey.pem":                "fullchain.pem privkey.pem",
		"tls.crt tls.key fullchain.pem privkey.pem":                          "tls.crt tls.key",
		"a.b.cer a.b.conf a.b.csr a.b.csr.conf a.b.key ca.cer fullchain.cer": "fullchain.cer a.b.key",
		"fullchain.pem key.pem":                                              "fullchain.pem key.pem",
		"cert.pem key.pem":                                                   "cert.pem key.pem",
		"a.b.crt a.b.issuer.crt a.b.json a.b.key":                            "a.b.crt a.b.key",
		"a.b.pem a.b-key.pem":                                                "a.b.pem a.b-key.pem",
		"haproxy.pem":                                                        "haproxy.pem ",
		"tls.crt":                                                            "tls.crt ",
		"":                                                                   "there is no tls.crt",
		"tls.key README":                                                     "there is no tls.crt",
		"a.crt b.crt tls.key": "" +
			"several files may stand for it: a.crt, b.crt",
		"tls.crt a.key b.key": "" +
			"several files may stand for it: a.key, b.key",
		"cert.pem chain.pem privkey.pem": "cert.pem may lack its intermediates",
		"a.b.cer a.b.key ca.cer":         "a.b.cer may lack its intermediates",
		"a_b.ca-bundle a_b.crt a_b.key":  "which a_b.ca-bundle may have: put both into one file, a_b.crt first",
		"a.crt a.key a.p7b":              "which a.p7b may have: put both into one file, a.crt first",
		"a.p7b tls.crt tls.key":          "tls.crt tls.key",
		"fullchain.pem key.pem x.p7b":    "fullchain.pem key.pem",
	} {
		f, err := Find(strings.Fields(files))
		got := f.Chain + " " + f.Key
		if err != nil {
			got = err.Error()
		}
		if got != want && (err == nil || !strings.HasSuffix(got, want)) {
			t.Errorf("%s: %s, want %s", files, got, want)
		}
	}
}

func TestTwoCertificatesOfOneFolderAreFound(t *testing.T) {
	const usual = "tls.crt tls.key "
	for files, want := range map[string]string{
		"ca.crt " + usual + "tls.rsa.crt tls.rsa.key": "tls.crt+tls.key rsa:tls.rsa.crt+tls.rsa.key",
		"tls.ecdsa.crt tls.ecdsa.key tls.rsa.crt tls.rsa.key": "" +
			"ecdsa:tls.ecdsa.crt+tls.ecdsa.key rsa:tls.rsa.crt+tls.rsa.key",
		"README cert.pem chain.pem fullchain.pem privkey.pem fullchain.rsa.pem privkey.rsa.pem": "" +
			"fullchain.pem+privkey.pem rsa:fullchain.rsa.pem+privkey.rsa.pem",
		"a.pem.ecdsa a.pem.rsa":               "ecdsa:a.pem.ecdsa+ rsa:a.pem.rsa+",
		"a.pem.ecdsa a.pem.rsa a.pem.rsa.key": "ecdsa:a.pem.ecdsa+ rsa:a.pem.rsa+a.pem.rsa.key",
		usual + "tls.rsa.crt":                 "tls.crt+tls.key rsa:tls.rsa.crt+tls.rsa.key",
		usual + "tls.rsa.key":                 "tls.crt+tls.key rsa:tls.rsa.crt+tls.rsa.key",
		"tls.key tls.rsa.crt tls.rsa.key":     "tls.crt+tls.key rsa:tls.rsa.crt+tls.rsa.key",
		"privkey.pem fullchain.rsa.pem privkey.rsa.pem": "" +
			"fullchain.pem+privkey.pem rsa:fullchain.rsa.pem+privkey.rsa.pem",
		"fullchain.pem privkey.pem privkey.rsa.pem": "" +
			"fullchain.pem+privkey.pem rsa:fullchain.rsa.pem+privkey.rsa.pem",
		"account.key tls.rsa.crt tls.rsa.key": "",
		usual:                                 "",
		"tls.rsa.crt tls.rsa.key":             "",
		usual + "a.rsa.crt b.rsa.crt":         "", // it is not clear which
		usual + "tls.rsa.crt tls.rsa.key tls.ecdsa.crt tls.ecdsa.key": "",
	} {
		var got []string
		for _, s := range FindBoth(strings.Fields(files)) {
			mark := ""
			if s.Mark != "" {
				mark = string(s.Mark) + ":"
			}
			got = append(got, fmt.Sprintf("%s%s+%s", mark, s.Chain, s.Key))
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s: %q, want %q", files, got, want)
		}
	}
}

func TestFoldersAreNamedAsProgramsNameThem(t *testing.T) {
	for _, c := range []struct {
		folder, file string
		want         keysource.Name // empty if it is refused
	}{
		{"shop.example", "", "shop.example"}, {"_.shop.example", "", "*.shop.example"},
		{"shop.example-0001", "fullchain.pem", "shop.example"}, {"shop.example-0012", "", "shop.example-0012"},
		{"node-0001", "fullchain.pem", "node-0001"}, {"a-001.example", "fullchain.pem", "a-001.example"},
		{"shop.example_ecc", "fullchain.cer", "shop.example"},
		{"*.shop.example_ecc", "fullchain.cer", "*.shop.example"},
		{"*.shop.example", "", ""},
		{"*.shop.example", "fullchain.cer", "*.shop.example"},
		{"wildcard_.shop.example", "", "*.shop.example"}, {"Shop.Example", "", "shop.example"},
		{"127.0.0.1", "", "127.0.0.1"}, {"::1", "", "::1"}, {"[2001:DB8::1]", "", "2001:db8::1"},
		{"127.0.0.1_ecc", "fullchain.cer", "127.0.0.1"}, {"127.0.0.1-0001", "fullchain.pem", "127.0.0.1"},
		{"my_app.shop.example", "", "my_app.shop.example"}, {"_dmarc.example", "", "_dmarc.example"},
	} {
		n, err := Host(c.folder, func(file string) bool { return file == c.file })
		if n != c.want || (err == nil) != (c.want != "") {
			t.Errorf("%s with %s: %q, %v", c.folder, c.file, n, err)
		}
	}
	for _, n := range []keysource.Name{"shop.example", "*.shop.example", "node-0001", "127.0.0.1", "::1",
		"a_b.example"} {
		if got, err := Host(Folder(n), func(string) bool { return true }); got != n || err != nil {
			t.Errorf("%s: %s, %v", n, got, err)
		}
	}
}

func TestFlatFilesAreHosts(t *testing.T) {
	for files, want := range map[string]string{
		"shop.example.crt shop.example.issuer.crt shop.example.key _.b.example.crt _.b.example.key": "" +
			"" +
			"*.b.example=_.b.example.crt+_.b.example.key shop.example=shop.example.crt+shop.example.key",
		"shop.example.pem": "shop.example=shop.example.pem+",
		"shop.example.crt shop.example.key shop.example.pem":   "shop.example=shop.example.crt+shop.example.key",
		"shop.example.pem shop.example.pem.key":                "shop.example=shop.example.pem+shop.example.pem.key",
		"shop.example.pem shop.example-key.pem":                "shop.example=shop.example.pem+shop.example-key.pem",
		"README ca.crt dhparam.pem acme.json a.key server.crt": "",
		"a.example.crt a.example.key a.example.rsa.crt a.example.rsa.key": "" +
			"a.example=a.example.crt+a.example.key a.example:rsa=a.example.rsa.crt+a.example.rsa.key",
		"a.example.pem.ecdsa a.example.pem.rsa a.example.pem.rsa.key": "" +
			"a.example:ecdsa=a.example.pem.ecdsa+ a.example:rsa=a.example.pem.rsa+a.example.pem.rsa.key",
		"a.example.rsa.crt a.example.rsa.key":  "a.example:rsa=a.example.rsa.crt+a.example.rsa.key",
		"a.example.pem.dsa a.example.pem.ocsp": "",
		"tls.crt tls.key ca.crt":               "! tls.crt",
		"fullchain.cer a.b.cer a.b.key ca.cer": "! fullchain.cer",
		"a..example.crt a..example.key":        "! a..example.crt",
		"a.b.ca-bundle a.b.crt a.b.key":        "! a.b.crt",
		"127.0.0.1.crt 127.0.0.1.key":          "127.0.0.1=127.0.0.1.crt+127.0.0.1.key",
	} {
		all, bad := FindFlat(strings.Fields(files))
		var got []string
		for _, f := range all {
			mark := ""
			if f.Mark != "" {
				mark = ":" + string(f.Mark)
			}
			got = append(got, fmt.Sprintf("%s%s=%s+%s", f.Name, mark, f.Chain, f.Key))
		}
		for f := range bad {
			got = append(got, "! "+f)
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s: %q, want %q", files, got, want)
		}
	}
	for _, c := range []struct {
		folder, beside string
		want           bool
	}{
		{"dnsapi", "acme.sh account.conf ca dnsapi", true}, {"ca", "account.conf", true}, {"ca", "ca intranet", false},
		{"shop.example_ecc", "account.conf", false},
	} {
		if Program(c.folder, strings.Fields(c.beside)) != c.want {
			t.Errorf("%s beside %s: not %v", c.folder, c.beside, c.want)
		}
	}
	if !slices.Equal([]bool{MayMatter("tls.key"), MayMatter("ca.crt"), MayMatter(".x.key"), MayMatter("README")},
		[]bool{true, false, false, false}) {
		t.Error("what may matter is wrong")
	}
}
