package daemon

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/lockstep-tls/lockstep/cmd/internal/config"
	"github.com/lockstep-tls/lockstep/identity/identitytest"
	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/store"
)

// Each key that a running lockstepd stores has a registered prefix. For any other key nobody has
// decided whether a backup holds it, and whether it may change while the store is frozen.
func TestEveryStoredRecordHasARegisteredPrefix(t *testing.T) {
	certs, ours := t.TempDir(), t.TempDir()
	identitytest.Certify(t, certs, "file.example")
	identitytest.Certify(t, ours, "put.example")
	r := start(t, func(c *config.Config) {
		c.Certs, c.Listeners.Template = certs, "../../../deploy/envoy/listener.yaml"
	})
	read := func(name string) []byte {
		b, err := os.ReadFile(filepath.Join(ours, "put.example", name))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	if _, err := r.certs.Put(t.Context(), "put.example",
		keysource.PEM{Chain: read("tls.crt"), Key: read("tls.key")}); err != nil {
		t.Fatal(err)
	}
	if _, err := r.client.PinHost(t.Context(), "put.example"); err != nil {
		t.Fatal(err)
	}
	join(t, r.xdsListener.Addr().String(), "edge-1", "tickets/default").gets("+tickets/default")
	if err := r.data.Vault.Freeze(t.Context(), "me", "a test", time.Now()); err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{}
	for key, err := range r.data.Vault.Raw.Keys(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		p := store.PrefixOf(key)
		if p.Owner == "" {
			t.Errorf("%s is of no registered prefix", key)
		}
		found[p.Name] = true
	}
	for _, p := range []store.Prefix{store.Certificates, store.Rings, store.AuditLog, store.EagerHosts,
		store.DirectoryNames, store.Rosters, store.Seal, store.Conditions} {
		if !found[p.Name] {
			t.Errorf("no record of %s was there to look at: %v", p.Name, found)
		}
	}
}
