package archive

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/lockstep-tls/lockstep/test/fleet"
)

// Two certificates of a host are both read, each under its own name.
func TestTwoCertificatesOfAHostAreRead(t *testing.T) {
	ca, err := fleet.NewCA("Test CA")
	if err != nil {
		t.Fatal(err)
	}
	parts := map[string]string{"x": "text"}
	for kind, isRSA := range map[string]bool{"e": false, "r": true} {
		p, err := ca.Issue(fleet.Leaf{Names: []string{"shop.example"}, RSA: isRSA})
		if err != nil {
			t.Fatal(err)
		}
		parts[kind], parts[kind+"k"], parts[kind+"+"] = string(p.Chain), string(p.Key), string(p.Chain)+string(p.Key)
		parts[kind+"^"] = string(p.Key) + string(p.Chain)
	}
	const shop, second = "shop.example", "shop.example:rsa"
	const wild = "*." + shop // of acme.sh
	if p, err := ca.Issue(fleet.Leaf{Names: []string{wild}, RSA: true}); err == nil {
		parts["w"], parts["wk"] = string(p.Chain), string(p.Key)
	}
	if p, err := ca.Issue(fleet.Leaf{Names: []string{wild}}); err == nil {
		parts["v"], parts["vk"] = string(p.Chain), string(p.Key)
	}
	for name, c := range map[string]struct {
		files   map[string]string
		fromDir string // folders; with an exclamation mark where it is refused
		fromTar string
	}{
		"marked files": {map[string]string{"/tls.crt": "e", "/tls.key": "ek", "/tls.rsa.crt": "r",
			"/tls.rsa.key": "rk"}, shop + " " + second, shop + " " + second},
		"both marked": {map[string]string{"/tls.ecdsa.crt": "e", "/tls.ecdsa.key": "ek", "/tls.rsa.crt": "r",
			"/tls.rsa.key": "rk"}, shop + " " + second, shop + " " + second},
		"acme.sh": {map[string]string{"/fullchain.cer": "r", "/x.key": "rk", "_ecc/fullchain.cer": "e",
			"_ecc/x.key": "ek"}, shop + " " + second, shop + " " + second},
		"acme.sh, of a wildcard": {map[string]string{"*/fullchain.cer": "w", "*/x.key": "wk",
			"*_ecc/fullchain.cer": "v", "*_ecc/x.key": "vk"}, "_." + shop + " _." + second,
			"_." + shop + " _." + second},
		"acme.sh, two of a kind": {map[string]string{"/fullchain.cer": "r", "/x.key": "rk", "_ecc/fullchain.cer": "r",
			"_ecc/x.key": "rk"}, "!shop.example_ecc " + shop, "!shop.example_ecc " + shop},
		"certbot, two lineages": {map[string]string{"/fullchain.pem": "e", "/privkey.pem": "ek",
			"-0001/fullchain.pem": "r",
			"-0001/privkey.pem":   "rk"}, shop + " " + second, shop + " " + second},
		"certbot, RSA first": {map[string]string{"/fullchain.pem": "r", "/privkey.pem": "rk",
			"-0001/fullchain.pem": "e", "-0001/privkey.pem": "ek"}, shop + " " + second, shop + " " + second},
		"no folder of the name": {map[string]string{"_ecc/fullchain.cer": "e", "_ecc/x.key": "ek",
			"-0001/fullchain.pem": "r", "-0001/privkey.pem": "rk"}, shop + " " + second, shop + " " + second},
		"HAProxy": {map[string]string{".pem.ecdsa": "e+", ".pem.rsa": "r+"}, shop + " " + second, shop + " " + second},
		"the key before the chain": {map[string]string{".pem.ecdsa": "e^", ".pem.rsa": "r^"}, shop + " " + second,
			shop + " " + second},
		"certbot": {map[string]string{"/fullchain.pem": "e", "/privkey.pem": "ek", "/fullchain.rsa.pem": "r",
			"/privkey.rsa.pem": "rk"}, shop + " " + second, shop + " " + second},
		"HAProxy, in a folder": {map[string]string{"/x.pem.ecdsa": "e+", "/x.pem.rsa": "r", "/x.pem.rsa.key": "rk"},
			shop + " " + second, shop + " " + second},
		"marked ECDSA": {map[string]string{"/tls.crt": "r", "/tls.key": "rk", "/tls.ecdsa.crt": "e",
			"/tls.ecdsa.key": "ek"}, shop + " " + second, "!" + shop + " " + shop},
		"half": {map[string]string{"/tls.ecdsa.crt": "e", "/tls.rsa.crt": "r", "/tls.rsa.key": "rk"},
			"!" + shop + " !" + shop, "!" + shop + " " + second},
		"flat": {map[string]string{".crt": "r", ".key": "rk", ".ecdsa.crt": "e", ".ecdsa.key": "ek"},
			shop + " " + second, shop + " " + second},
		"two of a kind": {map[string]string{".crt": "r", ".key": "rk", ".rsa.crt": "r", ".rsa.key": "rk"},
			"!" + shop + " " + shop, "!" + shop + " " + shop},
		"a folder of its own": {map[string]string{"/tls.crt": "e", "/tls.key": "ek", ":rsa/tls.crt": "r",
			":rsa/tls.key": "rk"}, shop + " " + second, shop + " " + second},
	} {
		dir := t.TempDir()
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		for _, file := range slices.Sorted(maps.Keys(c.files)) {
			text, path := parts[c.files[file]], shop+file
			if rest, ok := strings.CutPrefix(file, "*"); ok {
				path = wild + rest
			}
			at := filepath.Join(dir, path)
			if err := os.MkdirAll(filepath.Dir(at), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(at, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			write(t, w, path, text)
		}
		w.Close()
		f, err := os.Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		var got [2][]string
		take := func(i int, p Pair, err error) {
			kind, ofWild := "e", "v"
			if strings.HasSuffix(p.Folder, ":rsa") {
				kind, ofWild = "r", "w"
			}
			if strings.HasPrefix(p.Folder, "_.") {
				kind = ofWild
			}
			switch {
			case err != nil:
				t.Errorf("%s: %v", name, err)
			case p.Err != nil:
				got[i] = append(got[i], "!"+p.Folder)
			default:
				got[i] = append(got[i], p.Folder)
				if len(strings.Fields(c.fromDir)) > 0 && !strings.Contains(c.fromDir+c.fromTar, "!") &&
					!strings.Contains(string(p.Chain), parts[kind]) {
					t.Errorf("%s: %s has the certificate of the other", name, p.Folder)
				}
			}
		}
		for p, err := range Dir(f) {
			take(0, p, err)
		}
		for p, err := range Tar(&b, "it") {
			take(1, p, err)
		}
		for i, want := range []string{c.fromDir, c.fromTar} {
			slices.Sort(got[i])
			if s := strings.Join(got[i], " "); s != want {
				t.Errorf("%s: %s, want %s (from an archive: %v)", name, s, want, i == 1)
			}
		}
	}
}

// Of certbot's folders only some wait for a second certificate. The others come before the end.
func TestFoldersThatMayHaveAnotherDoNotAllWaitInMemory(t *testing.T) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	const folders = 200
	for i := range folders {
		write(t, w, fmt.Sprintf("h%d.example/fullchain.pem", i), strings.Repeat("x", 1000))
		write(t, w, fmt.Sprintf("h%d.example/privkey.pem", i), "k")
		write(t, w, fmt.Sprintf("h%d.example/cert.pem", i), strings.Repeat("x", 1000))
	}
	w.Close()
	r := newReader(&b)
	r.most = 100_000
	got, largest := map[string]bool{}, 0
	var err error
	for err == nil {
		var pairs []Pair
		pairs, err = r.next()
		largest = max(largest, r.size)
		for _, p := range pairs {
			if p.Err != nil || got[p.Folder] {
				t.Fatalf("%+v", p)
			}
			got[p.Folder] = true
		}
	}
	if !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	for p := range r.all(slices.Sorted(maps.Keys(r.waiting))) {
		if p.Err != nil || got[p.Folder] {
			t.Fatalf("%+v", p)
		}
		got[p.Folder] = true
	}
	if len(got) != folders || largest > r.most/2 {
		t.Errorf("%d folders of %d, %d bytes at once", len(got), folders, largest)
	}
}
