package dir

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/keysource/internal/testca"
)

var rsaKey = sync.OnceValue(func() crypto.Signer {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return key
})

// twinsOf are certificates of shop.example, ECDSA and RSA.
type twinsOf struct {
	t    *testing.T
	root string
	ca   testca.CA
}

// write makes a certificate, writes it into the files, and returns its version. One file gets both.
func (p *twinsOf) write(kind string, files ...string) string {
	p.t.Helper()
	signer := testca.Key(p.t)
	if kind == "RSA" {
		signer = rsaKey()
	}
	chain, key := p.ca.IssueFor(p.t, signer, testca.NotAfter, "shop.example")
	parts := [][]byte{chain, key}
	if len(files) == 1 {
		parts = [][]byte{slices.Concat(chain, key)}
	}
	for i, file := range files {
		at := filepath.Join(p.root, file)
		check(p.t, os.MkdirAll(filepath.Dir(at), 0o700))
		check(p.t, os.WriteFile(at, parts[i], 0o600))
	}
	return version(p.t, chain, key)
}

// settle waits until the directory was looked at twice.
func settle() {
	time.Sleep(13 * time.Second)
	synctest.Wait()
}

func TestTwoCertificatesOfAHostAreServed(t *testing.T) {
	const host = "shop.example"
	for name, files := range map[string][2]string{ // ECDSA, RSA
		"marked RSA": {host + "/tls.crt " + host + "/tls.key", host + "/tls.rsa.crt " + host + "/tls.rsa.key"},
		"marked ECDSA": {host + "/tls.ecdsa.crt " + host + "/tls.ecdsa.key",
			host + "/tls.crt " + host + "/tls.key"},
		"acme.sh": {host + "_ecc/fullchain.cer " + host + "_ecc/x.key",
			host + "/fullchain.cer " + host + "/x.key"},
		"HAProxy":             {host + ".pem.ecdsa", host + ".pem.rsa"},
		"HAProxy, apart":      {host + "/x.pem.ecdsa " + host + "/x.pem.ecdsa.key", host + "/x.pem.rsa"},
		"flat":                {host + ".crt " + host + ".key", host + ".rsa.crt " + host + ".rsa.key"},
		"folder and file":     {host + ".crt " + host + ".key", host + "/tls.crt " + host + "/tls.key"},
		"a folder of its own": {host + "/tls.crt " + host + "/tls.key", host + ":rsa/tls.crt " + host + ":rsa/tls.key"},
		"both marked": {host + "/tls.ecdsa.crt " + host + "/tls.ecdsa.key",
			host + "/tls.rsa.crt " + host + "/tls.rsa.key"},
		"certbot": {host + "-0001/fullchain.pem " + host + "-0001/privkey.pem",
			host + "/fullchain.pem " + host + "/privkey.pem"},
	} {
		t.Run(name, func(t *testing.T) {
			p := twinsOf{t, t.TempDir(), testca.New(t)}
			ecdsa, rsa := p.write("ECDSA", strings.Fields(files[0])...), p.write("RSA", strings.Fields(files[1])...)
			all, err := Look(t.Context(), p.root)
			check(t, err)
			if len(all) != 2 || all[0].Name != "shop.example" || all[0].Version != ecdsa || all[0].Problem != "" ||
				all[1].Name != "shop.example:rsa" || all[1].Version != rsa || all[1].Problem != "" {
				t.Errorf("%+v", all)
			}
		})
	}
}

// What is alone is the certificate of its host, whatever its files say.
func TestAMarkedCertificateThatIsAloneIsTheHosts(t *testing.T) {
	for _, files := range [][]string{
		{"shop.example/tls.rsa.crt", "shop.example/tls.rsa.key"}, {"shop.example.rsa.crt", "shop.example.rsa.key"},
		{"shop.example.pem.rsa"},
	} {
		p := twinsOf{t, t.TempDir(), testca.New(t)}
		v := p.write("RSA", files...)
		all, err := Look(t.Context(), p.root)
		check(t, err)
		if len(all) != 1 || all[0].Name != "shop.example" || all[0].Version != v || all[0].Problem != "" {
			t.Errorf("%v: %+v", files, all)
		}
	}
}

func TestTwoOfAKindAreNoPair(t *testing.T) {
	for _, c := range []struct{ first, second, words string }{
		{"RSA", "RSA", "the key of shop.example is RSA, too"},
		{"ECDSA", "ECDSA", "its key is ECDSA, and shop.example:rsa is the RSA certificate"},
	} {
		p := twinsOf{t, t.TempDir(), testca.New(t)}
		first := p.write(c.first, "shop.example/tls.crt", "shop.example/tls.key")
		p.write(c.second, "shop.example/tls.rsa.crt", "shop.example/tls.rsa.key")
		all, err := Look(t.Context(), p.root)
		check(t, err)
		if len(all) != 2 || all[0].Version != first || all[0].Problem != "" || all[1].Version != "" ||
			!strings.Contains(all[1].Problem, c.words) {
			t.Errorf("%s: %+v", c.second, all)
		}
	}
}

// An ECDSA certificate beside the RSA one that was there takes its name. It replaces nothing.
func TestAnECDSACertificateBesideAnRSAOneIsNoWorseRenewal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := twinsOf{t, t.TempDir(), testca.New(t)}
		two := p.write("RSA", "shop.example/fullchain.cer", "shop.example/shop.example.key")
		b := start(t, p.root, false)
		b.wants("shop.example", two)
		one := p.write("ECDSA", "shop.example_ecc/fullchain.cer", "shop.example_ecc/shop.example.key")
		settle()
		b.wants("shop.example", one)
		b.wants("shop.example:rsa", two)
		for _, n := range []keysource.Name{"shop.example", "shop.example:rsa"} {
			if e := b.entry(n); e.Problem != "" || len(e.Warnings) > 0 {
				t.Errorf("%s: %q %q", n, e.Problem, e.Warnings)
			}
		}
	})
}

func TestARenewalOfOneOfTwoLeavesTheOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := twinsOf{t, t.TempDir(), testca.New(t)}
		first, second := []string{"shop.example/tls.crt", "shop.example/tls.key"},
			[]string{"shop.example/tls.rsa.crt", "shop.example/tls.rsa.key"}
		one := p.write("ECDSA", first...)
		b := start(t, p.root, false)
		b.wants("shop.example", one)
		two := p.write("RSA", second...)
		settle()
		b.wants("shop.example", one)
		b.wants("shop.example:rsa", two)
		b.news()
		one = p.write("ECDSA", first...)
		settle()
		b.wants("shop.example", one)
		b.wants("shop.example:rsa", two)
		if got := b.news(); !slices.Equal(got, []keysource.Name{"shop.example"}) {
			t.Errorf("a renewal of the first one told of %v", got)
		}
		two = p.write("RSA", second...)
		settle()
		b.wants("shop.example", one)
		b.wants("shop.example:rsa", two)
		if got := b.news(); !slices.Equal(got, []keysource.Name{"shop.example:rsa"}) {
			t.Errorf("a renewal of the second one told of %v", got)
		}

		// One of another kind, or half of one, leaves the last good one.
		p.write("RSA", first...)
		p.write("ECDSA", second...)
		settle()
		b.wants("shop.example", one)
		b.wants("shop.example:rsa", two)
		for _, n := range []keysource.Name{"shop.example", "shop.example:rsa"} {
			if e := b.entry(n); !strings.Contains(e.Problem, "beside") && !strings.Contains(e.Problem, "put it under") {
				t.Errorf("%s: %q", n, e.Problem)
			}
		}
		one, two = p.write("ECDSA", first...), p.write("RSA", second...)
		settle()
		for _, file := range second {
			check(t, os.Remove(filepath.Join(p.root, file)))
			settle()
			if file == second[0] {
				b.wants("shop.example:rsa", two)
				if e := b.entry("shop.example:rsa"); !strings.Contains(e.Problem, "there is no tls.rsa.crt") {
					t.Errorf("%q", e.Problem)
				}
			}
		}
		if b.Has("shop.example:rsa") {
			t.Error("its files are gone, and it is not")
		}
		b.wants("shop.example", one)
		if e := b.entry("shop.example"); e.Problem != "" {
			t.Errorf("%q", e.Problem)
		}
	})
}

// A pair in two folders stays one while one of them is being written.
func TestTwoFoldersStayAPairWhileOneIsReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := twinsOf{t, t.TempDir(), testca.New(t)}
		rsaFiles := []string{"shop.example/fullchain.cer", "shop.example/shop.example.key"}
		ecFiles := []string{"shop.example_ecc/fullchain.cer", "shop.example_ecc/shop.example.key"}
		alone := p.write("RSA", rsaFiles...)
		b := start(t, p.root, false)
		b.wants("shop.example", alone)
		one := p.write("ECDSA", ecFiles...)
		settle()
		b.wants("shop.example", one)
		b.wants("shop.example:rsa", alone)
		for _, files := range [][]string{rsaFiles, ecFiles} {
			check(t, os.WriteFile(filepath.Join(p.root, files[0]), []byte("half"), 0o600))
			settle()
			b.wants("shop.example", one)
			b.wants("shop.example:rsa", alone)
		}
		one, alone = p.write("ECDSA", ecFiles...), p.write("RSA", rsaFiles...)
		settle()
		b.wants("shop.example", one)
		b.wants("shop.example:rsa", alone)
	})
}

// A host's RSA certificate that moves to its second name is still there.
func TestAHostThatGetsASecondCertificateIsNotWarnedOfItsKey(t *testing.T) {
	crt, key := "shop.example/tls.crt", "shop.example/tls.key"
	for name, add := range map[string]func(p *twinsOf){
		"a folder of its own": func(p *twinsOf) {
			p.write("ECDSA", "shop.example_ecc/fullchain.cer", "shop.example_ecc/x.key")
		},
		"marked ECDSA": func(p *twinsOf) {
			p.write("ECDSA", "shop.example/tls.ecdsa.crt", "shop.example/tls.ecdsa.key")
		},
		"RSA before": func(p *twinsOf) {
			p.write("RSA", "shop.example/tls.rsa.crt", "shop.example/tls.rsa.key")
			settle()
			p.write("ECDSA", crt, key)
		},
		"RSA behind": func(p *twinsOf) {
			p.write("ECDSA", crt, key)
			settle()
			p.write("RSA", "shop.example/tls.rsa.crt", "shop.example/tls.rsa.key")
		},
	} {
		synctest.Test(t, func(t *testing.T) {
			p := &twinsOf{t, t.TempDir(), testca.New(t)}
			v := p.write("RSA", crt, key)
			b := start(t, p.root, false)
			b.wants("shop.example", v)
			add(p)
			settle()
			c, err := b.Certificate(t.Context(), "shop.example")
			check(t, err)
			e, second := b.entry("shop.example"), b.entry("shop.example:rsa")
			if c.CheckFirst("shop.example") != nil || second.Version == "" || e.Problem+second.Problem != "" {
				t.Errorf("%s: %+v %+v", name, e, second)
			}
			if len(e.Warnings)+len(c.Warnings) > 0 {
				t.Errorf("%s: %q %q", name, e.Warnings, c.Warnings)
			}
		})
	}
}

// A second one that is not whole takes nothing from the one that is, after a restart either.
func TestHalfAPairLeavesTheWholeOne(t *testing.T) {
	usual := []string{"shop.example/tls.crt", "shop.example/tls.key"}
	marked := []string{"shop.example/tls.ecdsa.crt", "shop.example/tls.ecdsa.key"}
	for name, c := range map[string]struct {
		whole, half []string
		lacks       int
		other       bool // other says that another key stands there.
	}{
		"a marked chain": {usual, marked, 1, false},
		"a marked key":   {usual, marked, 0, false},
		"a wrong key":    {usual, marked, 1, true},
		"a folder": {[]string{"shop.example_ecc/fullchain.cer", "shop.example_ecc/x.key"},
			[]string{"shop.example/fullchain.cer", "shop.example/x.key"}, 0, false},
	} {
		synctest.Test(t, func(t *testing.T) {
			p := &twinsOf{t, t.TempDir(), testca.New(t)}
			kinds := []string{"RSA", "ECDSA"}
			if name == "a folder" {
				kinds = []string{"ECDSA", "RSA"}
			}
			v := p.write(kinds[0], c.whole...)
			p.write(kinds[1], c.half...)
			text, err := os.ReadFile(filepath.Join(p.root, c.half[c.lacks]))
			check(t, err)
			check(t, os.Remove(filepath.Join(p.root, c.half[c.lacks])))
			if c.other {
				_, key := p.ca.Issue(t, "shop.example")
				check(t, os.WriteFile(filepath.Join(p.root, c.half[c.lacks]), key, 0o600))
			}
			b := start(t, p.root, false)
			b.wants("shop.example", v)
			settle()
			b.wants("shop.example", v)
			if e := b.entry("shop.example"); e.Problem != "" {
				t.Errorf("%s: %q", name, e.Problem)
			}
			check(t, os.WriteFile(filepath.Join(p.root, c.half[c.lacks]), text, 0o600))
			settle()
			one, err := b.Certificate(t.Context(), "shop.example")
			check(t, err)
			two, err := b.Certificate(t.Context(), "shop.example:rsa")
			check(t, err)
			if one.CheckFirst("shop.example") != nil || two.CheckName("shop.example:rsa") != nil {
				t.Errorf("%s: %s and %s", name, one.Kind(), two.Kind())
			}
		})
	}
}

// One of two that cannot be read after a restart leaves the other at its name.
func TestAPairIsOneAfterARestart(t *testing.T) {
	first, second := []string{"shop.example_ecc/fullchain.cer", "shop.example_ecc/x.key"},
		[]string{"shop.example/fullchain.cer", "shop.example/x.key"}
	for _, broken := range []string{first[0], second[0]} {
		synctest.Test(t, func(t *testing.T) {
			p := &twinsOf{t, t.TempDir(), testca.New(t)}
			one, two := p.write("ECDSA", first...), p.write("RSA", second...)
			check(t, os.WriteFile(filepath.Join(p.root, broken), []byte("half"), 0o600))
			known := &fakeKnown{names: []keysource.Name{"shop.example", "shop.example:rsa"}}
			b := start(t, p.root, false, func(c *Config) { c.Known = known })
			settle()
			if broken == first[0] {
				b.fails("shop.example", "no CERTIFICATE block")
				b.wants("shop.example:rsa", two)
			} else {
				b.wants("shop.example", one)
				b.fails("shop.example:rsa", "no CERTIFICATE block")
			}
		})
	}
}
