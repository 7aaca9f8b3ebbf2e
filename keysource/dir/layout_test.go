package dir

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/keysource/internal/testca"
)

// certbot writes the files of a version, and then puts the links on them, one after the other.
type certbot struct {
	t    *testing.T
	root string // of live and archive
	ca   testca.CA
	n    int
}

// write makes the next version of a lineage, without its links.
func (c *certbot) write(lineage string, names ...string) (version string) {
	c.t.Helper()
	c.n++
	chain, key := c.ca.Issue(c.t, names...)
	dir := filepath.Join(c.root, "archive", lineage)
	check(c.t, os.MkdirAll(dir, 0o700))
	for file, b := range map[string][]byte{"cert": chain, "privkey": key, "chain": c.ca.PEM,
		"fullchain": slices.Concat(chain, c.ca.PEM)} {
		check(c.t, os.WriteFile(filepath.Join(dir, fmt.Sprintf("%s%d.pem", file, c.n)), b, 0o600))
	}
	p, err := keysource.ParseCertificate(keysource.PEM{Chain: slices.Concat(chain, c.ca.PEM), Key: key}, time.Time{})
	check(c.t, err)
	return p.Version()
}

// link puts the links of one kind of file on the newest version.
func (c *certbot) link(lineage string, files ...string) {
	c.t.Helper()
	dir := filepath.Join(c.root, "live", lineage)
	check(c.t, os.MkdirAll(dir, 0o700))
	for _, f := range files {
		at := filepath.Join(dir, f+".pem")
		_ = os.Remove(at) // certbot does so, too
		check(c.t, os.Symlink(fmt.Sprintf("../../archive/%s/%s%d.pem", lineage, f, c.n), at))
	}
}

var allLinks = []string{"cert", "privkey", "chain", "fullchain"}

// A renewal that has replaced only some links changes nothing. After any number of links the key
// belongs to the chain.
func TestTheLiveFolderOfCertbotIsServedAndItsLinksAreNeverMixed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &certbot{t: t, root: t.TempDir(), ca: testca.New(t)}
		first := c.write("shop.example", "shop.example", "www.shop.example")
		c.link("shop.example", allLinks...)
		live := filepath.Join(c.root, "live")
		check(t, os.WriteFile(filepath.Join(live, "README"), []byte("This directory contains your keys"), 0o644))
		b := start(t, live, false)
		b.wants("shop.example", first)
		if e := b.entry("shop.example"); !slices.Equal(e.Unserved, []keysource.Name{"www.shop.example"}) {
			t.Errorf("not served is %v", e.Unserved)
		}
		for _, order := range [][]string{allLinks, {"fullchain", "privkey", "cert", "chain"}} {
			was := b.entry("shop.example").Version
			next := c.write("shop.example", "shop.example", "www.shop.example")
			for i, link := range order {
				c.link("shop.example", link)
				time.Sleep(7 * time.Second)
				synctest.Wait()
				want := was
				if slices.Contains(order[:i+1], "privkey") && slices.Contains(order[:i+1], "fullchain") {
					want = next
				}
				b.wants("shop.example", want)
				if e := b.entry("shop.example"); want == was && (i > 0 || link != "cert") &&
					!strings.Contains(e.Problem, "does not belong") {
					t.Errorf("after %v the problem is %q", order[:i+1], e.Problem)
				}
			}
		}
		check(t, os.Symlink("shop.example", filepath.Join(live, "www.shop.example")))
		time.Sleep(7 * time.Second)
		synctest.Wait()
		b.wants("www.shop.example", b.entry("shop.example").Version)
		if e := b.entry("shop.example"); len(e.Unserved) > 0 || e.Problem != "" {
			t.Errorf("with a link for the other name: %+v", e)
		}
	})
}

// Certbot writes NAME-0001 where it had another certificate of that name before.
func TestANumberedFolderOfCertbotServesItsName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &certbot{t: t, root: t.TempDir(), ca: testca.New(t)}
		second := c.write("shop.example-0001", "shop.example")
		c.link("shop.example-0001", allLinks...)
		b := start(t, filepath.Join(c.root, "live"), false)
		b.wants("shop.example", second)
		first := c.write("shop.example", "shop.example")
		c.link("shop.example", allLinks...)
		time.Sleep(7 * time.Second)
		synctest.Wait()
		b.wants("shop.example", first)
		if e := b.List()[0]; e.Name != "" || !strings.HasSuffix(e.Folder, "shop.example-0001") ||
			!strings.Contains(e.Problem, "is shop.example again, which shop.example is already") {
			t.Errorf("the list begins with %+v", e)
		}
	})
}

func TestOtherProgramsFoldersAndFilesAreServed(t *testing.T) {
	ca := testca.New(t)
	inter := ca.Intermediate(t)
	// L is the leaf, I the intermediate, C both, and K the key.
	for name, files := range map[string]map[string]string{
		"Kubernetes": {"shop.example/tls.crt": "C", "shop.example/tls.key": "K", "shop.example/ca.crt": "I"},
		"acme.sh": {"shop.example_ecc/fullchain.cer": "C", "shop.example_ecc/shop.example.key": "K",
			"shop.example_ecc/shop.example.cer": "L", "shop.example_ecc/ca.cer": "I",
			"shop.example_ecc/shop.example.conf": "x"},
		"acme.sh's home": {"shop.example_ecc/fullchain.cer": "C", "shop.example_ecc/shop.example.key": "K",
			"account.conf": "x", "ca/acme/account.key": "K", "dnsapi/dns_cf.sh": "x", "deploy/nginx.sh": "x"},
		"lego": {"shop.example.crt": "C", "shop.example.key": "K", "shop.example.issuer.crt": "I",
			"shop.example.json": "x"},
		"HAProxy":             {"shop.example.pem": "CK"},
		"HAProxy, key first":  {"shop.example.pem": "KC"},
		"HAProxy, key beside": {"shop.example.pem": "C", "shop.example.pem.key": "K"},
		"both in tls.crt":     {"shop.example/tls.crt": "CK"},
		"Caddy": {"shop.example/shop.example.crt": "C", "shop.example/shop.example.key": "K",
			"shop.example/shop.example.json": "x"},
		"mkcert": {"shop.example.pem": "C", "shop.example-key.pem": "K"},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			leaf, key := inter.Issue(t, "shop.example")
			parts := map[rune][]byte{'L': leaf, 'C': slices.Concat(leaf, inter.PEM), 'K': key, 'I': inter.PEM,
				'x': []byte("x")}
			for file, what := range files {
				var b []byte
				for _, r := range what {
					b = append(b, parts[r]...)
				}
				at := filepath.Join(root, file)
				check(t, os.MkdirAll(filepath.Dir(at), 0o755))
				check(t, os.WriteFile(at, b, 0o600))
			}
			all, err := Look(t.Context(), root)
			check(t, err)
			if len(all) != 1 || all[0].Name != "shop.example" || all[0].Problem != "" ||
				all[0].Version != version(t, parts['C'], key) {
				t.Errorf("the list is %+v", all)
			}
		})
	}
}

func TestWhatCannotBeServedSaysWhatToDo(t *testing.T) {
	ca := testca.New(t)
	chain, key := ca.Issue(t, "shop.example")
	for name, c := range map[string]struct {
		below string // what of root is given
		files []string
		words string
	}{
		"the directory above live": {"", []string{"live/shop.example/fullchain.pem", "live/shop.example/privkey.pem"},
			"/live has folders of certificates: give that directory"},
		"one folder of live": {"shop.example", []string{"shop.example/fullchain.pem", "shop.example/privkey.pem"},
			"fullchain.pem: stands in the directory itself: move it into a folder of the server name"},
		"a secret of Kubernetes": {"", []string{"tls.crt", "tls.key"}, "tls.crt: stands in the directory itself"},
		"the directory above lego's": {"", []string{"certificates/shop.example.crt", "certificates/shop.example.key"},
			"/certificates has files of certificates, such as shop.example.crt: give that directory"},
		"the directory above Caddy's": {"", []string{"acme/shop.example/shop.example.crt",
			"acme/shop.example/shop.example.key"}, "/acme has folders of certificates: give that directory"},
		"a wildcard of certbot": {"live", []string{"live/wild.example/fullchain.pem", "live/wild.example/privkey.pem"},
			"put it under one of its names"},
		"a bundle of its own": {"", []string{"shop.example/shop_example.crt", "shop.example/shop_example.ca-bundle",
			"shop.example/shop_example.key"}, "which shop_example.ca-bundle may have: put both into one file"},
		"a bundle without a folder": {"", []string{"shop.example.crt", "shop.example.ca-bundle", "shop.example.key"},
			"shop.example.crt: may lack its intermediates, which shop.example.ca-bundle may have"},
		"no key": {"", []string{"shop.example.crt"},
			"it has no private key, and there is no shop.example.key"},
		"half of certbot": {"", []string{"shop.example/fullchain.pem"}, "there is no privkey.pem"},
		"without a chain": {"",
			[]string{"shop.example/cert.pem", "shop.example/chain.pem", "shop.example/privkey.pem"},
			"may lack its intermediates"},
		"two chains": {"", []string{"shop.example/a.crt", "shop.example/b.crt", "shop.example/a.key"},
			"a.crt, b.crt"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			root := t.TempDir()
			for _, file := range c.files {
				at := filepath.Join(root, file)
				check(t, os.MkdirAll(filepath.Dir(at), 0o755))
				b := chain
				if strings.HasSuffix(file, ".key") || strings.HasSuffix(file, "privkey.pem") {
					b = key
				}
				check(t, os.WriteFile(at, b, 0o600))
			}
			all, err := Look(t.Context(), filepath.Join(root, c.below))
			check(t, err)
			var got []string
			for _, e := range all {
				got = append(got, e.Folder+": "+e.Problem)
			}
			if !strings.Contains(strings.Join(got, "\n"), c.words) {
				t.Errorf("%q, want %q", got, c.words)
			}
		})
	}
}

// A file of a name goes as a folder does.
func TestAFlatFileThatGoesRemovesItsName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		root, ca := t.TempDir(), testca.New(t)
		chain, key := ca.Issue(t, "shop.example")
		put(t, ca, root, "other.example")
		file := filepath.Join(root, "shop.example.pem")
		check(t, os.WriteFile(file, slices.Concat(chain, key), 0o600))
		b := start(t, root, false)
		b.wants("shop.example", version(t, chain, key))
		chain, key = ca.Issue(t, "shop.example")
		check(t, os.WriteFile(file, slices.Concat(chain, key), 0o600))
		time.Sleep(7 * time.Second)
		synctest.Wait()
		b.wants("shop.example", version(t, chain, key))
		check(t, os.Remove(file))
		time.Sleep(7 * time.Second)
		synctest.Wait()
		b.absent("shop.example")
	})
}

func TestANoteStandsInTheList(t *testing.T) {
	root, ca := t.TempDir(), testca.New(t)
	chain, key := ca.Issue(t, "shop.example")
	putPEM(t, filepath.Join(root, "shop.example"), slices.Concat(chain, chain), key)
	all, err := Look(t.Context(), root)
	if check(t, err); len(all) != 1 || all[0].Problem != "" || len(all[0].Notes) != 1 ||
		!strings.Contains(all[0].Notes[0], "certificate 1 is certificate 0 again") {
		t.Errorf("the list is %+v", all)
	}
}
