package sds

import (
	"fmt"
	"testing"
	"testing/synctest"

	"github.com/lockstep-tls/lockstep/identity"
	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/xds"
)

// BenchmarkLookup is what a policy adds to a push: a look-up for each stream.
func BenchmarkLookup(b *testing.B) {
	text := "rules:\n"
	for i := range 10000 {
		text += fmt.Sprintf("- {identity: \"spiffe://fleet.example/site-%d/*\", scopes: [default], names: "+
			"[\"*.s%d.example\", shop.example]}\n", i, i)
	}
	p, err := identity.Parse([]byte(text))
	if err != nil {
		b.Fatal(err)
	}
	for name, policy := range map[string]Policy{"open": nil, "policy": p} {
		l := newLab()
		l.Table = NewTable(Config{Sources: keysource.Sources{l.source}, Rings: l.rings, Policy: policy,
			Log: l.cfg.Log})
		nodes := make([]xds.Node, 5000)
		for i := range nodes {
			nodes[i] = node(uint64(i), xds.SDS)
			nodes[i].Identity = fmt.Sprintf("spiffe://fleet.example/site-%d/edge-1", i)
			l.Watch(nodes[i], "shop.example", xds.NewMailbox())
		}
		for _, what := range []string{"shop.example", keysource.RingName("default")} {
			b.Run(name+"/"+what, func(b *testing.B) {
				b.ReportAllocs()
				for i := 0; b.Loop(); i++ {
					l.Lookup(nodes[i%len(nodes)], what)
				}
			})
		}
	}
}

// The policy that comes with the project fits.
func TestAPolicyFileGuardsTheTable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, err := identity.Parse([]byte(`rules: [{identity: a, names: ["*.shop.example"]}]`))
		if err != nil {
			t.Fatal(err)
		}
		g := newGuarded(p)
		g.set("*.shop.example", "W")
		defer g.start(t)()
		g.watchAll("x.shop.example", "*.shop.example", "shop.example")
		synctest.Wait()
		for name, want := range map[string]string{"x.shop.example": "present absent",
			"*.shop.example": "present absent", "shop.example": "absent absent"} {
			if got := g.has("a", name) + " " + g.has("b", name); got != want {
				t.Errorf("%s: %s, want %s", name, got, want)
			}
		}
	})
}
