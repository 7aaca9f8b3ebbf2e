package daemon

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/lockstep-tls/lockstep/cmd/internal/config"
	"github.com/lockstep-tls/lockstep/identity/identitytest"
	"github.com/lockstep-tls/lockstep/internal/testkit"
	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/store"
	"github.com/lockstep-tls/lockstep/xds"
)

// What a store has lost is written back from what is sent, if it came from there, and under the
// name under which it was there.
func TestWhatTheStoreHadIsWrittenBackAndNothingElse(t *testing.T) {
	files, ours := filepath.Join(t.TempDir(), "certs"), t.TempDir()
	identitytest.Certify(t, files, "file.example")
	r := start(t, func(c *config.Config) { c.Certs, c.Refresh = files, time.Hour })
	put := func(name, folder string) {
		chain, err := os.ReadFile(filepath.Join(ours, folder, "tls.crt"))
		if err != nil {
			t.Fatal(err)
		}
		key, err := os.ReadFile(filepath.Join(ours, folder, "tls.key"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := r.certs.Put(t.Context(), keysource.Name(name), keysource.PEM{Chain: chain, Key: key}); err != nil {
			t.Fatal(err)
		}
	}
	identitytest.Certify(t, ours, "own.example")
	// it covers more names than the one under which it is stored
	identitytest.Certify(t, ours, "*.shop.example", "a.shop.example", "other.example")
	put("own.example", "own.example")
	put("*.shop.example", "*.shop.example")
	box := xds.NewMailbox()
	node := xds.Node{ID: "n", Stream: 1, Service: xds.ADS}
	for _, name := range []string{"file.example", "own.example", "a.shop.example", "B.shop.example"} {
		r.table.Watch(node, name, box)
		defer r.table.Unwatch(node, name, box)
		testkit.Until(t, func() error {
			if _, state := r.table.Lookup(node, name); state != xds.Present {
				return fmt.Errorf("%s: %v", name, state)
			}
			return nil
		})
	}
	names := func() (all []string) {
		for e, err := range r.certs.List(t.Context(), "", "") {
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, string(e.Name))
		}
		return all
	}
	before := names()
	for _, n := range before { // under the catalog, so that the table goes on sending them
		key := store.Key("cert", n)
		_, rev, err := r.store.Get(t.Context(), key)
		if err == nil {
			_, err = r.store.Swap(t.Context(), key, rev, nil)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := r.writeBack(t.Context()); err != nil {
		t.Fatal(err)
	}
	if after := names(); !slices.Equal(after, before) || len(after) != 2 {
		t.Errorf("the store has %q, had %q", after, before)
	}
}
