package identity

import (
	"errors"
	"regexp"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestAnIdentityUsesOnlyTheIDsThatItsRulesList(t *testing.T) {
	p := parse(t, `
rules:
- {identity: "spiffe://fleet.example/edge/*", scopes: [default], nodes: ["edge-{1}", "edge-{1}-*"]}
- {identity: "spiffe://fleet.example/edge/7", nodes: [spare]}
- {identity: "spiffe://fleet.example/open/*", scopes: [default]}
- {identity: "*.west.example", scopes: [default], nodes: ["west/{1}"]}
- {identity: unix:uid=1000, names: ["*"], nodes: [a, "b*c*d"]}
`)
	for _, c := range []struct {
		who, id string
		want    bool
	}{
		{"spiffe://fleet.example/edge/1", "edge-1", true},
		{"spiffe://fleet.example/edge/1", "edge-2", false},
		{"spiffe://fleet.example/edge/1", "edge-12", false},
		{"spiffe://fleet.example/edge/1", "edge-1-blue", true},
		{"spiffe://fleet.example/edge/1", "Edge-1", false},
		{"spiffe://fleet.example/edge/1", "spare", false},
		{"spiffe://fleet.example/edge/1", "edge-{1}", false},
		{"spiffe://fleet.example/edge/1", "", false},
		{"spiffe://fleet.example/edge/7", "spare", true}, // the lists of all its rules count
		{"spiffe://fleet.example/edge/7", "edge-7", true},
		{"spiffe://fleet.example/edge/7", "edge-1", false},
		{"spiffe://fleet.example/edge/a/b", "edge-a/b", true},
		{"spiffe://fleet.example/open/1", "edge-1", true}, // no rule of it says anything of ids
		{"spiffe://other.example/x", "edge-1", true},      // it gets nothing, under whatever id
		{"", "edge-1", true},
		{"a.west.example", "west/a", true},
		{"a.west.example", "west/b", false},
		{"b.east.example a.west.example", "west/a", true}, // each name that matches counts
		{"b.east.example a.west.example", "west/b.east.example", false},
		{"*.west.example", "west/*", true}, // a star in a certificate's name is a character
		{"*.west.example", "west/a", false},
		{"unix:uid=1000", "bcd", true},
		{"unix:uid=1000", "b1c2d", true},
		{"unix:uid=1000", "bcdcd", true},
		{"unix:uid=1000", "bdc", false},
		{"unix:uid=1000", "ab", false},
		{"unix:uid=1001", "ab", true},
	} {
		if got := p.AllowsNode(c.who, c.id); got != c.want {
			t.Errorf("%q may call itself %q: %v", c.who, c.id, got)
		}
	}
	for id, want := range map[string]bool{"edge-1": true, "edge-1-x": false, "other": false} {
		if got := p.NamesNode("spiffe://fleet.example/edge/1", id); got != want {
			t.Errorf("%q is named: %v", id, got)
		}
	}
	p = parse(t, `rules: [{identity: "*", scopes: [default], nodes: ["{1}", x]}]`)
	for id, want := range map[string]bool{"x": true, "a.example": false, "": false} {
		if id != "" && p.AllowsNode("", id) != want {
			t.Errorf("nobody may call itself %q: %v", id, !want)
		}
	}
	if !p.AllowsNode("a.example", "a.example") || p.AllowsNode("a.example", "b.example") {
		t.Error("a star alone matches the whole identity")
	}
}

func TestBadNodesAreRefusedWithRuleAndLine(t *testing.T) {
	rule := func(s string) string { return "rules:\n- {identity: ok, scopes: [default]}\n- " + s + "\n" }
	for text, want := range map[string][]string{
		rule(`{identity: "edge-*", scopes: [x], nodes: []}`):               {"rule 2 (line 3)", "nodes", "is empty"},
		rule(`{identity: "edge-*", scopes: [x], nodes: }`):                 {"rule 2 (line 3)", "nodes", "is empty"},
		rule("identity: edge-1\n  scopes: [default]\n  nodes:\n"):          {"rule 2 (line 5)", "nodes", "is empty"},
		rule("identity: edge-1\n  scopes: [default]\n  nodes: null\n"):     {"rule 2 (line 5)", "nodes", "is empty"},
		rule("identity: edge-1\n  scopes: [default]\n  nodes: edge-1\n"):   {"line 5", "is no list"},
		rule("identity: edge-1\n  scopes: [x]\n  nodes:\n  - a\n  - ''"):   {"rule 2 (line 7)", "empty"},
		rule("identity: edge-1\n  scopes: [default]\n  nodes:\n  - 7\n"):   {"line 6", "quotes"},
		rule(`{identity: "edge-*", scopes: [x], nodes: ["{2}"]}`):          {"rule 2 (line 3)", "only {1}"},
		rule(`{identity: "edge-*", scopes: [x], nodes: ["{1"]}`):           {"rule 2 (line 3)", "only {1}"},
		rule(`{identity: "edge-*", scopes: [x], nodes: ["{{1}}"]}`):        {"rule 2 (line 3)", "only {1}"},
		rule(`{identity: edge-1, scopes: [x], nodes: ["edge-{1}"]}`):       {"rule 2 (line 3)", "has no star"},
		rule(`{identity: "edge-*", scopes: [default], nodes: ["a-{1}*"]}`): {"rule 2 (line 3)", "put a character"},
		rule(`{identity: "edge-*", scopes: [default], nodes: ["*{1}"]}`):   {"rule 2 (line 3)", "put a character"},
		rule(`{identity: "edge-*", scopes: [x], nodes: ["{1}{1}"]}`):       {"rule 2 (line 3)", "put a character"},
		rule(`{identity: a, nodes: ["` + strings.Repeat("x", 257) + `"]}`): {"rule 2 (line 3)", "256 bytes"},
		rule(`{identity: a, nodes: ["` + strings.Repeat("a*", 9) + `"]}`):  {"rule 2 (line 3)", "8 stars"},
	} {
		_, err := Parse([]byte(text))
		for _, w := range want {
			if err == nil || !errors.Is(err, ErrBadPolicy) || !strings.Contains(err.Error(), w) {
				t.Errorf("%.100q: %v; want %q in it", text, err, w)
			}
		}
	}
}

// An entry matches what a regular expression with the same meaning does.
func TestAnEntryOfNodesMatchesLikeARegularExpression(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringMatching(`([abx.]|\*|-\{1\}-){1,6}`).Draw(t, "entry")
		captured := rapid.StringMatching(`[ab*.]{0,2}`).Draw(t, "captured")
		id := rapid.StringMatching(`[abx.*-]{0,8}`).Draw(t, "id")
		p, err := parseIDPattern(text, true)
		if err != nil {
			t.Skip(err)
		}
		expression := strings.ReplaceAll(regexp.QuoteMeta(text), `\*`, `.*`)
		expression = strings.ReplaceAll(expression, regexp.QuoteMeta(captureMark), regexp.QuoteMeta(captured))
		if got, want := p.matches(id, captured), regexp.MustCompile("^"+expression+"$").MatchString(id); got != want {
			t.Fatalf("%q with {1}=%q matches %q: %v, want %v", text, captured, id, got, want)
		}
	})
}

// Two identities that differ in what the star matches never share an id of "x-{1}".
func TestTwoIdentitiesShareNoID(t *testing.T) {
	p := parse(t, `rules: [{identity: "spiffe://f/edge/*", scopes: [default], nodes: ["edge-{1}"]}]`)
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.StringMatching(`[a-z0-9/-]{1,4}`)
		a, b := name.Draw(t, "a"), name.Draw(t, "b")
		if got := p.AllowsNode("spiffe://f/edge/"+a, "edge-"+b); got != (a == b) {
			t.Fatalf("%s may call itself edge-%s: %v", a, b, got)
		}
	})
}
