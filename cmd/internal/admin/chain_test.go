package admin

import (
	"strings"
	"testing"

	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/keysource/eager"
)

func TestTheChainOfANameIsTheOneThatEnvoyChooses(t *testing.T) {
	hosts := []eager.Host{
		{Name: "shop.example", By: eager.Configured},
		{Name: "www.blog.example", By: eager.Pinned},
		{Name: "*.blog.example", By: eager.Matched},
		{Name: "*.b.blog.example", By: eager.Pinned},
		{Name: "late.example", By: eager.Matched, BeyondMax: true},
		{Name: "late.blog.example", By: eager.Matched, BeyondMax: true},
	}
	for name, want := range map[keysource.Name]struct{ kind, host, by, words string }{
		"shop.example":      {"eager", "shop.example", "config", "its sessions resume"},
		"www.blog.example":  {"eager", "www.blog.example", "pin", "of its own"},
		"a.blog.example":    {"eager", "*.blog.example", "match", "not eager itself"},
		"x.a.blog.example":  {"eager", "*.blog.example", "match", "not eager itself"},
		"a.b.blog.example":  {"eager", "*.b.blog.example", "pin", "not eager itself"},
		"*.blog.example":    {"eager", "*.blog.example", "match", "of its own"},
		"late.blog.example": {"eager", "*.blog.example", "match", "not eager itself"},
		"blog.example":      {"on-demand", "", "", "host pin"},
		"www.shop.example":  {"on-demand", "", "", "host pin"},
		"late.example":      {"on-demand", "", "", "beyond max_eager (4)"},
		"localhost":         {"on-demand", "", "", "host pin"},
	} {
		if c := chainAmong(hosts, name, 4); c.Kind != want.kind || c.Host != want.host || c.By != want.by ||
			!strings.Contains(c.Words, want.words) {
			t.Errorf("%s: %+v, want %+v", name, *c, want)
		}
	}
}
