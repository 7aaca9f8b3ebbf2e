package daemon

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-tls/lockstep/cmd/internal/api"
	"github.com/lockstep-tls/lockstep/cmd/internal/archive"
	"github.com/lockstep-tls/lockstep/cmd/internal/config"
	"github.com/lockstep-tls/lockstep/test/fleet"
)

// A line that stands for many hosts is found by each of them, and by no other.
func TestALineOfManyHostsIsFoundByEachOfThem(t *testing.T) {
	certs := filepath.Join(t.TempDir(), "certs")
	s := newShop(t)
	pair := s.pair("", time.Hour, "*.many.example") // near its end from the start
	for i := range 45 {
		name := fmt.Sprintf("dir-%02d.many.example", i)
		if err := fleet.WriteHost(certs, name, fleet.Pair{Chain: pair.Chain, Key: pair.Key}); err != nil {
			t.Fatal(err)
		}
	}
	r := start(t, func(c *config.Config) { c.Certs = certs })
	var all []archive.Pair
	for i := range 5 {
		all = append(all, archive.Pair{Folder: fmt.Sprintf("put-%d.many.example", i), PEM: pair.PEM})
	}
	if _, err := r.client.ImportCerts(t.Context(), tarOf(t, all...)); err != nil {
		t.Fatal(err)
	}
	kinds := func(host string) string {
		page, err := r.client.Events(t.Context(), api.EventsQuery{Host: host})
		if err != nil {
			t.Fatal(err)
		}
		var kinds []string
		for _, e := range page.Events {
			kinds = append(kinds, e.Kind)
		}
		slices.Sort(kinds)
		return strings.Join(slices.Compact(kinds), " ")
	}
	for host, want := range map[string]string{
		"dir-07.many.example": "cert-expiring cert-taken", "dir-44.many.example": "cert-expiring cert-taken",
		"put-3.many.example": "cert", "other.many.example": "",
	} {
		eventually(t, func() string {
			if got := kinds(host); got != want {
				return fmt.Sprintf("%s: %q, want %q", host, got, want)
			}
			return ""
		})
	}
}
