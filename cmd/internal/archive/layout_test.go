package archive

import (
	"archive/tar"
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// A directory and an archive of it are read alike.
func TestOtherProgramsFoldersAreReadFromADirectoryAndFromAnArchive(t *testing.T) {
	const both = "cert\n-----BEGIN PRIVATE KEY-----\nkey"
	for name, c := range map[string]struct {
		files map[string]string
		want  []string // folder, chain, key, or the error
	}{
		"certbot": {map[string]string{"README": "x", "shop.example/cert.pem": "l", "shop.example/chain.pem": "i",
			"shop.example/fullchain.pem": "c", "shop.example/privkey.pem": "k"}, []string{"shop.example c k"}},
		"certbot, numbered": {map[string]string{"shop.example-0001/fullchain.pem": "c",
			"shop.example-0001/privkey.pem": "k"}, []string{"shop.example c k"}},
		"certbot, both": {map[string]string{"shop.example-0001/fullchain.pem": "c",
			"shop.example-0001/privkey.pem": "k",
			"shop.example/fullchain.pem":    "C", "shop.example/privkey.pem": "K"}, []string{"shop.example C K",
			"shop.example-0001: it is shop.example again, which shop.example is already: remove one"}},
		"acme.sh": {map[string]string{"*.shop.example_ecc/fullchain.cer": "c",
			"*.shop.example_ecc/*.shop.example.key": "k",
			"*.shop.example_ecc/*.shop.example.cer": "l", "*.shop.example_ecc/ca.cer": "i"},
			[]string{"_.shop.example c k"}},
		"Kubernetes": {map[string]string{"shop.example/ca.crt": "i", "shop.example/tls.crt": "c",
			"shop.example/tls.key": "k", "shop.example/tls-combined.pem": "b"}, []string{"shop.example c k"}},
		"lego": {map[string]string{"shop.example.crt": "c", "shop.example.issuer.crt": "i", "shop.example.key": "k",
			"shop.example.json": "x"}, []string{"shop.example c k"}},
		"HAProxy": {map[string]string{"shop.example.pem": both}, []string{"shop.example " + both + " " + both}},
		"both in a file": {map[string]string{"shop.example/tls.crt": both},
			[]string{"shop.example " + both + " " + both}},
		"no key": {map[string]string{"shop.example.crt": "c"}, []string{
			"shop.example: shop.example.crt has no private key, and there is no shop.example.key"}},
		"a bundle": {map[string]string{"shop.example.crt": "l", "shop.example.ca-bundle": "i",
			"shop.example.key": "k"}, []string{
			"shop.example.crt: it may lack its intermediates, which shop.example.ca-bundle may have: put both " +
				"into one file, shop.example.crt first"}},
		"a secret itself": {map[string]string{"tls.crt": "c", "tls.key": "k"}, []string{
			"tls.crt: it stands in the directory itself: move it into a folder of the server name, or give the " +
				"directory above"}},
	} {
		dir := t.TempDir()
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		for _, file := range slices.Sorted(maps.Keys(c.files)) {
			at := filepath.Join(dir, file)
			if err := os.MkdirAll(filepath.Dir(at), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(at, []byte(c.files[file]), 0o600); err != nil {
				t.Fatal(err)
			}
			write(t, w, file, c.files[file])
		}
		w.Close()
		f, err := os.Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		var fromDir, fromTar []string
		text := func(p Pair, err error) string {
			if err != nil || p.Err != nil {
				return fmt.Sprintf("%s: %v", p.Folder, cmp.Or(err, p.Err))
			}
			return strings.Join([]string{p.Folder, string(p.Chain), string(p.Key)}, " ")
		}
		for p, err := range Dir(f) {
			fromDir = append(fromDir, text(p, err))
		}
		for p, err := range Tar(&b, "it") {
			fromTar = append(fromTar, text(p, err))
		}
		slices.Sort(fromTar)
		slices.Sort(fromDir)
		if !slices.Equal(fromDir, c.want) || !slices.Equal(fromTar, c.want) {
			t.Errorf("%s: %q, and from an archive %q, want %q", name, fromDir, fromTar, c.want)
		}
	}
}

func TestADirectoryAboveCertificatesIsNamed(t *testing.T) {
	dir := t.TempDir()
	for _, file := range []string{"live/shop.example/fullchain.pem", "live/shop.example/privkey.pem",
		"certificates/a.example.crt", "certificates/b.example.crt", "certificates/a.example.key",
		"renewal/shop.example.conf", "account.conf", "ca/acme/account.key", "dnsapi/dns_cf.sh"} {
		at := filepath.Join(dir, file)
		if err := os.MkdirAll(filepath.Dir(at), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(at, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	f, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var got []string
	for p, err := range Dir(f) {
		got = append(got, strings.ReplaceAll(fmt.Sprint(p.Folder, ": ", cmp.Or(err, p.Err)), dir, "DIR"))
	}
	if want := []string{
		"certificates: there is no tls.crt, and several files may stand for it: a.example.crt, " +
			"b.example.crt; DIR/certificates has files of certificates, such as a.example.crt: give that directory",
		"live: there is no tls.crt; DIR/live has folders of certificates: give that directory",
		"renewal: there is no tls.crt",
	}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}
