package identity

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"github.com/lockstep-tls/lockstep/keysource"
)

func parse(t testing.TB, text string) *Policy {
	t.Helper()
	p, err := Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

const design = `
rules:
- identity: "spiffe://fleet.example/edge/*"   # SPIFFE ID or DNS SAN of the client certificate, glob
  scopes: [default]                           # ticket keys
  names: ["*.example", "shop.example"]        # certificates; "*" is everything
- identity: edge-2.example
  scopes: [partners, "*"]
- identity: "unix:uid=1000"
  names: ["*"]
- identity: "*.west.example"
  names: [München.example]
- identity: "spiffe://fleet.example/edge/7"
  names: [seven.test]
`

func TestWhatIsGranted(t *testing.T) {
	p := parse(t, design)
	for _, c := range []struct {
		who, what string
		want      bool
	}{
		{"spiffe://fleet.example/edge/1", "scope default", true},
		{"spiffe://fleet.example/edge/1", "scope partners", false},
		{"spiffe://fleet.example/edge/a/b", "scope default", true},
		{"spiffe://fleet.example/edge", "scope default", false},
		{"spiffe://fleet.example/edges/1", "scope default", false},
		{"spiffe://other.example/edge/1", "scope default", false},
		{"spiffe://fleet.example/edge/1", "shop.example", true},
		{"spiffe://fleet.example/edge/1", "a.b.c.example", true},
		{"spiffe://fleet.example/edge/1", "*.example", true},
		{"spiffe://fleet.example/edge/1", "*.a.example", true},
		{"spiffe://fleet.example/edge/1", "example", false},
		{"spiffe://fleet.example/edge/1", "shop.test", false},
		{"spiffe://fleet.example/edge/1", "shopexample", false},
		{"spiffe://fleet.example/edge/1", "seven.test", false},
		{"spiffe://fleet.example/edge/7", "seven.test", true}, // rules add up
		{"spiffe://fleet.example/edge/7", "shop.example", true},
		{"edge-2.example", "scope anything", true},
		{"edge-2.example", "shop.example", false},
		{"other.example edge-2.example", "scope partners", true}, // any of the names counts
		{"edge-2.example.test", "scope partners", false},
		{"unix:uid=1000", "whatever.test", true},
		{"unix:uid=1000", "scope default", false},
		{"unix:uid=10001", "whatever.test", false},
		{"a.west.example", "xn--mnchen-3ya.example", true},
		// who may have a host may have both its certificates
		{"a.west.example", "xn--mnchen-3ya.example:rsa", true},
		{"west.example", "xn--mnchen-3ya.example:rsa", false},
		{"west.example", "xn--mnchen-3ya.example", false},
		// a DNS pattern is for DNS names
		{"spiffe://a/b.west.example", "xn--mnchen-3ya.example", false},
		{"", "shop.example", false},
		{"", "scope default", false},
		{"*", "scope default", false},
		{"spiffe://fleet.example/edge/*", "scope partners", false},
	} {
		scope, ok := strings.CutPrefix(c.what, "scope ")
		got := p.AllowsName(c.who, keysource.Name(c.what))
		if ok {
			got = p.AllowsScope(c.who, scope)
		}
		if got != c.want {
			t.Errorf("%q may have %s: %v", c.who, c.what, got)
		}
	}
	if got := p.Scopes(); !slices.Equal(got, []string{"default", "partners"}) || p.Rules() != 5 {
		t.Errorf("%d rules with scopes %v", p.Rules(), got)
	}
}

func TestEverybodyIncludesThoseOfWhomNothingIsKnown(t *testing.T) {
	p := parse(t, `rules: [{identity: "*", names: [a.example], scopes: [default]}]`)
	for _, who := range []string{"", "edge-1", "spiffe://a/b", "unix:uid=0"} {
		if !p.AllowsName(who, "a.example") || !p.AllowsScope(who, "default") || p.AllowsName(who, "b.example") {
			t.Errorf("%q", who)
		}
	}
	p = parse(t, "rules: []")
	if p.AllowsName("", "a.example") || p.AllowsScope("edge-1", "default") {
		t.Error("no rules grant something")
	}
}

func TestABadPolicyIsRefusedWithRuleAndLine(t *testing.T) {
	rule := func(s string) string { return "rules:\n- {identity: ok, scopes: [default]}\n- " + s + "\n" }
	for text, want := range map[string][]string{
		"":                                   {"empty", "rules: []"},
		"# nothing\n":                        {"empty"},
		"{}":                                 {`no "rules:"`},
		"rules:\n":                           {`no "rules:"`},
		"rulez: []":                          {"rulez"},
		"rules: 7":                           {"[1:8]"},
		"rules: []\n---\nrules: []":          {"line 2", "second document"},
		"rules: !x\na":                       {"line 1", "the tag !x"},
		rule("{identity: ok, scopes: !x b}"): {"line 3", "the tag !x"},
		"rules: []\n---\n":                   {"line 2", "second document"},
		"rules: []\n...\n# end\n---":         {"line 4", "second document"},
		"rules: [":                           {"at [line:column]"},
		rule("{scopes: [default]}"):          {"rule 2 (line 3)", "identity is missing"},
		rule("{identity: edge-1}"):           {"rule 2 (line 3)", "grants nothing"},
		rule("{identity: edge-1, scopes: [default], name: [a]}"):         {"[3:", "name"},
		rule("{identity: edge-1, identity: edge-2, scopes: [default]}"):  {"[3:", "identity"},
		rule(`{identity: "", scopes: [default]}`):                        {"rule 2", "empty"},
		rule(`{identity: "spiffe://fleet.example*", scopes: [default]}`): {"rule 2 (line 3)", "trust domain"},
		rule(`{identity: "spiffe://*/edge", scopes: [default]}`):         {"rule 2 (line 3)", "trust domain"},
		rule(`{identity: "spiffe://Fleet/edge", scopes: [default]}`):     {"rule 2 (line 3)", "SPIFFE"},
		rule(`{identity: "spiffe:fleet", scopes: [default]}`):            {"rule 2 (line 3)", "neither a SPIFFE ID"},
		rule(`{identity: "edge-*-*", scopes: [default]}`):                {"rule 2 (line 3)", "more than one star"},
		rule(`{identity: "a b", scopes: [default]}`):                     {"rule 2 (line 3)", "a b"},
		rule(`{identity: "unix:1000", scopes: [default]}`):               {"rule 2 (line 3)", "unix:uid=1000"},
		rule(`{identity: "unix:uid=abc", scopes: [default]}`):            {"rule 2 (line 3)", "unix:uid=1000"},
		rule(`{identity: "unix:uid=", scopes: [default]}`):               {"rule 2 (line 3)", "unix:uid=1000"},
		rule(`{identity: "unix:uid=-1", scopes: [default]}`):             {"rule 2 (line 3)", "unix:uid=1000"},
		rule(`{identity: "unix:uid=4294967296", scopes: [default]}`):     {"rule 2 (line 3)", "unix:uid=1000"},
		rule(`{identity: "unix:uid=a*", scopes: [default]}`):             {"rule 2 (line 3)", "unix:uid=1000"},
		rule(`{identity: "unix:uid=65534", scopes: [default]}`):          {"rule 2 (line 3)", "not one user"},
		rule("{identity: 1000, scopes: [default]}"):                      {"line 3", "quotes"},
		rule("{identity: edge-1, scopes: [default, Upper]}"):             {"rule 2 (line 3)", "scopes", "Upper"},
		rule("identity: edge-1\n  names:\n  - ok.example\n  - shop 1.example"): {
			"rule 2 (line 6)", "names", "shop 1.example",
		},
		rule(`{identity: edge-1, names: ["shop-*.example"]}`): {"rule 2 (line 3)", "names"},
		rule("{identity: edge-1, names: [192.0.2.0/24]}"):     {"rule 2 (line 3)", "192.0.2.0/24"},
		rule(`{identity: edge-1, names: ["shop.example:rsa"]}`): {
			"rule 2 (line 3)", `name "shop.example", which grants both`,
		},
		rule("{identity: alice, admin: [read, owner]}"): {
			"rule 2 (line 3)", "admin", `"owner" is no role`, "read, operate or admin",
		},
		rule("{identity: alice, admin: [1]}"):  {"line 3", "quotes"},
		rule(`{identity: "*", admin: [read]}`): {"rule 2 (line 3)", "every certificate"},
		strings.Repeat("#", maxPolicy+1):       {"bytes"},
	} {
		_, err := Parse([]byte(text))
		for _, w := range want {
			if err == nil || !errors.Is(err, ErrBadPolicy) || !strings.Contains(err.Error(), w) {
				t.Errorf("%.80q: %v; want %q in it", text, err, w)
			}
		}
	}
}

func TestARuleMayGiveARoleAtTheAdminAPI(t *testing.T) {
	p, err := Parse([]byte(`
rules:
- {identity: "spiffe://fleet/ops/*", admin: [read]}
- {identity: "spiffe://fleet/ops/alice", admin: [operate, read], scopes: [default]}
- {identity: "*.ops.example", admin: [admin]}
- {identity: "spiffe://fleet/edge/*", scopes: ["*"], names: ["*"]}
`))
	if err != nil {
		t.Fatal(err)
	}
	for who, want := range map[string]Role{
		"spiffe://fleet/ops/bob": Read, "spiffe://fleet/ops/alice": Operate, "a.ops.example": Admin,
		"edge.example a.ops.example": Admin, "spiffe://fleet/edge/1": NoRole, "ops.example": NoRole, "": NoRole,
	} {
		if got := p.Role(who); got != want {
			t.Errorf("%q has the role %s, want %s", who, got, want)
		}
	}
	if p.AllowsScope("spiffe://fleet/ops/bob", "default") || !p.AllowsScope("spiffe://fleet/ops/alice", "default") {
		t.Error("a role is a grant of keys")
	}
}

// allows is the policy as one would say it: each rule in turn, nothing kept.
func allows(p *Policy, identity, scope string, n keysource.Name) bool {
	for _, r := range p.rules {
		names := strings.Fields(identity)
		if r.who.kind != anyKind && !slices.ContainsFunc(names, r.who.matches) {
			continue
		}
		if scope != "" {
			if _, ok := r.grant.scopes[scope]; ok || r.grant.allScopes {
				return true
			}
			continue
		}
		if _, ok := r.grant.names[n]; ok || r.grant.allNames {
			return true
		}
		for parent := range r.grant.below {
			if strings.HasSuffix(string(n), "."+parent) {
				return true
			}
		}
	}
	return false
}

func TestAnAddressIsGrantedByItself(t *testing.T) {
	p := parse(t, "rules:\n- {identity: edge-1, "+
		"names: [192.0.2.1, \"[2001:DB8::1]\", \"*.0.2.2\", \"*.shop.example\"]}\n")
	for n, want := range map[keysource.Name]bool{"192.0.2.1": true, "2001:db8::1": true, "192.0.2.2": false,
		"192.0.2.3": false, "2001:db8::2": false, "a_b.shop.example": true} {
		if got := p.AllowsName("edge-1", n); got != want {
			t.Errorf("%s: %v, want %v", n, got, want)
		}
	}
}

func TestTheIndexSaysWhatTheRulesSay(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		who := rapid.StringMatching(`(spiffe://(a|b)/[ab/]{1,3}|[ab.]{1,3}|unix:uid=[01]{1,2})`)
		patterns := rapid.Custom(func(t *rapid.T) string {
			s := who.Draw(t, "of")
			if rapid.Bool().Draw(t, "star") {
				i := rapid.IntRange(0, len(s)).Draw(t, "at")
				j := rapid.IntRange(i, len(s)).Draw(t, "to")
				s = s[:i] + "*" + s[j:]
			}
			return s
		})
		name := rapid.StringMatching(`([ab]\.){0,2}[ab]`)
		scope := rapid.StringMatching(`[ab]`)
		var rules []rule
		for range rapid.IntRange(0, 12).Draw(t, "rules") {
			var r rule
			var err error
			if r.who, err = parsePattern(patterns.Draw(t, "pattern")); err != nil {
				continue
			}
			for _, s := range rapid.SliceOfN(scope, 0, 2).Draw(t, "scopes") {
				_ = r.grant.addScope(s)
			}
			for _, n := range rapid.SliceOfN(name, 0, 2).Draw(t, "names") {
				if rapid.Bool().Draw(t, "below") {
					n = "*." + n
				}
				_ = r.grant.addName(n)
			}
			rules = append(rules, r)
		}
		p := newPolicy(rules)
		for range 20 {
			identity := strings.Join(rapid.SliceOfN(who, 0, 3).Draw(t, "identity"), " ")
			s, n := scope.Draw(t, "scope"), keysource.Name(name.Draw(t, "name"))
			if got, want := p.AllowsScope(identity, s), allows(p, identity, s, ""); got != want {
				t.Fatalf("scope %s of %q: %v, want %v", s, identity, got, want)
			}
			if got, want := p.AllowsName(identity, n), allows(p, identity, "", n); got != want {
				t.Fatalf("name %s of %q: %v, want %v", n, identity, got, want)
			}
		}
	})
}

func TestManyIdentitiesShareWhatIsKept(t *testing.T) {
	p := parse(t, `rules: [{identity: "spiffe://a/*", names: ["*"]}]`)
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for i := range maxKnown / 2 {
				if !p.AllowsName(fmt.Sprintf("spiffe://a/%d-%d", w, i), "x.example") {
					t.Error("denied")
					return
				}
			}
		})
	}
	wg.Wait()
	if len(p.known) > maxKnown || len(p.same) != 1 {
		t.Errorf("%d identities, %d grants are kept", len(p.known), len(p.same))
	}
}

func FuzzParse(f *testing.F) {
	for _, seed := range []string{design, "rules: []", "rules: [{identity: a, scopes: [b]}]",
		"rules:\n- &a {identity: \"*\", names: [\"*\"]}\n- *a\n", "rules: {a: b}",
		"- a", "rules: !x\na", "rules: [null]", `rules: [{identity: "a*", nodes: ["b-{1}", "c*"]}]`} {
		f.Add([]byte(seed), "spiffe://fleet.example/edge/1", "shop.example")
	}
	f.Fuzz(func(t *testing.T, b []byte, who, name string) {
		p, err := Parse(b)
		if err != nil {
			if !errors.Is(err, ErrBadPolicy) {
				t.Fatalf("%v", err)
			}
			return
		}
		p.AllowsNode(who, name)
		n, err := keysource.ServerName(name)
		if err == nil && p.AllowsName(who, n) != allows(p, who, "", n) {
			t.Errorf("%q and %q: the index differs from the rules", who, n)
		}
		if p.AllowsScope(who, name) != allows(p, who, name, "") && name != "" {
			t.Errorf("%q and %q: the index differs from the rules", who, name)
		}
	})
}

// tenThousand rules of all kinds, of which one concerns each node.
func tenThousand() string {
	var b strings.Builder
	b.WriteString("rules:\n")
	for i := range 2500 {
		fmt.Fprintf(&b, "- {identity: \"spiffe://fleet.example/edge/%d\", scopes: [default], names: "+
			"[\"*.n%d.example\", h%d.example]}\n", i, i, i)
		fmt.Fprintf(&b, "- {identity: \"spiffe://fleet.example/site-%d/*\", scopes: [default], names: "+
			"[\"*.s%d.example\"]}\n", i, i)
		fmt.Fprintf(&b, "- {identity: edge-%d.fleet.example, scopes: [default], names: [\"*\"]}\n", i)
		fmt.Fprintf(&b, "- {identity: \"*.site-%d.fleet.example\", scopes: [default], names: [h%d.example]}\n", i, i)
	}
	return b.String()
}

// BenchmarkDecision is to stay below 5 µs.
func BenchmarkDecision(b *testing.B) {
	text := tenThousand()
	p := parse(b, text)
	who := make([]string, 5000)
	for i := range who {
		who[i] = []string{"spiffe://fleet.example/edge/%d", "spiffe://fleet.example/site-%d/x",
			"edge-%d.fleet.example", "a.site-%d.fleet.example"}[i%4]
		who[i] = fmt.Sprintf(who[i], i%2500)
	}
	b.Run("known", func(b *testing.B) {
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			p.AllowsName(who[i%len(who)], "a.b.n7.example")
		}
	})
	b.Run("first", func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			p.AllowsName(fmt.Sprintf("%s/%d", who[i%len(who)], i), "a.b.n7.example")
		}
	})
	b.Run("parse", func(b *testing.B) {
		for b.Loop() {
			parse(b, text)
		}
	})
}
