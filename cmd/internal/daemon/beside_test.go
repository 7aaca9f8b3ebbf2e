package daemon

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"filippo.io/age"

	"github.com/lockstep-tls/lockstep/cmd/internal/api"
	"github.com/lockstep-tls/lockstep/cmd/internal/archive"
	"github.com/lockstep-tls/lockstep/cmd/internal/backup"
	"github.com/lockstep-tls/lockstep/cmd/internal/config"
	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/test/fleet"
)

// put stores p under name.
func put(t *testing.T, r *running, name string, p fleet.Pair, beside bool) api.Cert {
	t.Helper()
	c, err := r.client.PutCert(t.Context(), name, api.PutCert{Chain: p.Chain, Key: p.Key, Beside: beside})
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return c
}

// holds checks which certificate stands under name. None is the zero pair.
func holds(t *testing.T, r *running, name string, p fleet.Pair) {
	t.Helper()
	c, err := r.client.Cert(t.Context(), name)
	if p.Chain == nil && err == nil || p.Chain != nil && (err != nil || c.Chain != string(p.Chain)) {
		t.Errorf("%s is not what it should be: %+v %v", name, c, err)
	}
}

func (s shop) issue(rsa bool) fleet.Pair {
	s.t.Helper()
	p, err := s.ca.Issue(fleet.Leaf{Names: []string{"shop.example"}, RSA: rsa})
	if err != nil {
		s.t.Fatal(err)
	}
	return p
}

// With --beside a host gets both, whichever comes first, and renewals of each replace their own.
// Without it the later one replaces the earlier, and words say how to have both.
func TestAnRSACertificateStandsBesideAnECDSAOne(t *testing.T) {
	const name, second = "shop.example", "shop.example:rsa"
	for _, rsaFirst := range []bool{false, true} {
		t.Run(fmt.Sprint("RSA first: ", rsaFirst), func(t *testing.T) {
			r, s := start(t, nil), newShop(t)
			pairs := map[bool]fleet.Pair{false: s.issue(false), true: s.issue(true)}
			if c := put(t, r, name, pairs[rsaFirst], true); c.Name != name || len(c.Warnings) > 0 {
				t.Errorf("the first: %+v", c)
			}
			c := put(t, r, name, pairs[!rsaFirst], true)
			holds(t, r, name, pairs[false])
			holds(t, r, second, pairs[true])
			said := strings.Join(c.Warnings, "\n")
			if !strings.Contains(said, second) || !strings.Contains(said, "session tickets") ||
				strings.Contains(said, "cannot connect") || strings.Contains(said, "replaced") {
				t.Errorf("the second: %q", c.Warnings)
			}
			if want := map[bool]string{true: name, false: second}[rsaFirst]; c.Name != want {
				t.Errorf("it is said to stand under %s, not %s", c.Name, want)
			}
			if st, err := r.client.Status(t.Context()); err != nil || len(st.Certs.Warnings) > 0 {
				t.Errorf("status: %v %v", st.Certs.Warnings, err)
			}
			for _, rsa := range []bool{true, false} {
				pairs[rsa] = s.issue(rsa)
				if c := put(t, r, name, pairs[rsa], true); len(c.Warnings) > 0 {
					t.Errorf("a renewal: %q", c.Warnings)
				}
				holds(t, r, name, pairs[false])
				holds(t, r, second, pairs[true])
			}
			if c := put(t, r, name, pairs[true], true); !c.Same || c.Name != second {
				t.Errorf("the same again: %+v", c)
			}
		})
	}
	r, s := start(t, nil), newShop(t)
	put(t, r, name, s.issue(true), false)
	p := s.issue(false)
	c := put(t, r, name, p, false)
	if said := strings.Join(c.Warnings, "\n"); !strings.Contains(said, "replaced the RSA certificate") ||
		!strings.Contains(said, "--beside") {
		t.Errorf("%q", said)
	}
	holds(t, r, name, p)
	holds(t, r, second, fleet.Pair{})
}

// An import of both certificates of a host that has an RSA one replaces none by one of another
// kind.
func TestAnImportOfTwoBesideAnRSACertificateWarnsOfNothing(t *testing.T) {
	r, s := start(t, nil), newShop(t)
	first, second := s.issue(false), s.issue(true)
	put(t, r, "shop.example", second, false)
	var all []archive.Pair
	for folder, p := range map[string]fleet.Pair{"shop.example": first, "shop.example:rsa": second} {
		all = append(all, archive.Pair{Folder: folder, PEM: keysource.PEM{Chain: p.Chain, Key: p.Key}})
	}
	done, err := r.client.ImportCerts(t.Context(), tarOf(t, all...))
	if err != nil || done.Stored != 2 || len(done.Warnings) > 0 {
		t.Errorf("%+v %v", done, err)
	}
	holds(t, r, "shop.example", first)
	holds(t, r, "shop.example:rsa", second)
}

// A host's list names both certificates of its chain. The context of each is what tickets are bound
// to.
func TestTheListOfHostsNamesBothCertificates(t *testing.T) {
	r := start(t, func(c *config.Config) {
		c.Listeners.Template, c.Listeners.Hosts = "../../../deploy/envoy/listener.yaml", []string{"shop.example"}
	})
	s := newShop(t)
	put(t, r, "shop.example", s.issue(false), true)
	host := func() api.Host {
		t.Helper()
		l, err := r.client.Hosts(t.Context())
		if err != nil || len(l.Hosts) != 1 {
			t.Fatalf("%+v %v", l, err)
		}
		return l.Hosts[0]
	}
	if h := host(); h.Certificate == "" || h.Second != nil {
		t.Errorf("with one: %+v", h)
	}
	c := put(t, r, "shop.example", s.issue(true), true)
	if h := host(); h.Certificate == "" || h.Second == nil || h.Second.Name != c.Name ||
		h.Second.Version != c.Version || h.Second.Context != c.Context || h.Second.Chain != "" {
		t.Errorf("with two: %+v, want %+v", h, c)
	}
}

// A backup has both certificates of a host. A warning about a renewal is not in it: what is brought
// back replaces nothing there.
func TestTwoCertificatesOfAHostComeBackFromABackup(t *testing.T) {
	const name, second = "shop.example", "shop.example:rsa"
	r, s := start(t, nil), newShop(t)
	both, err := s.ca.Issue(fleet.Leaf{Names: []string{name, "www." + name}})
	if err != nil {
		t.Fatal(err)
	}
	put(t, r, name, both, true)
	first, rsa := s.issue(false), s.issue(true)
	put(t, r, name, first, true) // it has a name less
	put(t, r, name, rsa, true)
	warnings := func(r *running) string {
		t.Helper()
		st, err := r.client.Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return strings.Join(st.Certs.Warnings, "; ")
	}
	if said := warnings(r); !strings.Contains(said, "www.shop.example") {
		t.Fatalf("no warning: %q", said)
	}
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := r.client.Backup(t.Context(), api.BackupRequest{
		Recipients: []string{id.Recipient().String()},
	}, &b); err != nil {
		t.Fatal(err)
	}
	into := func(r *running) {
		t.Helper()
		text, err := backup.Decrypt(bytes.NewReader(b.Bytes()), []age.Identity{id})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := r.client.Restore(t.Context(), text, false, "test"); err != nil {
			t.Fatal(err)
		}
		holds(t, r, name, first)
		holds(t, r, second, rsa)
		x, err := r.client.Explain(t.Context(), api.ExplainQuery{Name: name})
		if err != nil || x.Second == nil || x.Second.Name != second {
			t.Errorf("it is not served beside the first: %+v %v", x, err)
		}
	}
	fresh := start(t, nil)
	into(fresh)
	if said := warnings(fresh); said != "" {
		t.Errorf("a new place warns of what was replaced elsewhere: %s", said)
	}
	into(r) // where all is there already
	if said := warnings(r); !strings.Contains(said, "www.shop.example") {
		t.Errorf("the warning is gone: %q", said)
	}

	// A later certificate of the host gives way to those of the backup.
	other := start(t, nil)
	put(t, other, name, both, false)
	put(t, other, name, s.issue(true), false)
	into(other)
	if said := warnings(other); said != "" {
		t.Errorf("the warning is about a certificate that is gone: %s", said)
	}
}
