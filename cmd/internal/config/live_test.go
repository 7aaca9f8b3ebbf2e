package config

import (
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/lockstep-tls/lockstep/cmd/internal/reload"
	"github.com/lockstep-tls/lockstep/cmd/internal/strictyaml"
)

func TestWhatCanChangeAtRunTime(t *testing.T) {
	const before = "scopes:\n  default: {period: 1h}\n  old: {}\nlisteners:\n  template: a.yaml\n"
	for _, c := range []struct {
		after string
		live  string // the keys that change
		never string // the keys that do not
	}{
		{before, "", ""},
		{before + "node_names: 5\nwildcard_names: 6\n", "node_names wildcard_names", ""},
		{"scopes:\n  default: {period: 10m, ticket_lifetime: 1h, max_key_age: 2h, quorum: 50%, laggard: 1m, " +
			"refuse_grace: 1m, node_lease: 10s, client_certs: " + strings.Repeat("a", 64) + "}\n" +
			"  old: {}\nlisteners:\n  template: a.yaml\n",
			"scopes.default.laggard scopes.default.max_key_age scopes.default.node_lease scopes.default.period " +
				"scopes.default.quorum scopes.default.refuse_grace scopes.default.ticket_lifetime",
			"scopes.default.client_certs"},
		{"scopes:\n  default: {period: 1h}\n  new: {}\nlisteners:\n  template: a.yaml\n", "", "scopes.old scopes.new"},
		{before + "  hosts: [a.example]\n  match: [\"*\"]\n  max_eager: 3\n", "listeners.hosts listeners.match " +
			"listeners.max_eager", ""},
		{strings.Replace(before, "a.yaml", "b.yaml\n  scope: old", 1), "listeners.template", "listeners.scope"},
		{"scopes:\n  old: {}\n", "", "listeners.max_eager listeners.scope listeners.template"},
		{before + "refresh: 1s\nstore: nats://x\n", "", "refresh store"},
		{before + "log_level: debug\nlog_format: text\n", "log_level", "log_format"},
	} {
		now, err := load(t, before, nil)
		if err != nil {
			t.Fatal(err)
		}
		next, err := load(t, c.after, nil)
		if err != nil {
			t.Fatal(err)
		}
		was := now.Texts()
		live := now.Live(next)
		if got := keys(reload.Compare(now.Texts(), live.Texts())); got != c.live {
			t.Errorf("%q: %q change, want %q", c.after, got, c.live)
		}
		if got := keys(reload.Compare(live.Texts(), next.Texts())); got != c.never {
			t.Errorf("%q: %q do not change, want %q", c.after, got, c.never)
		}
		if !reflect.DeepEqual(now.Texts(), was) {
			t.Errorf("%q: the configuration in force was changed", c.after)
		}
	}
}

func keys(ds []reload.Difference) string {
	var all []string
	for _, d := range ds {
		all = append(all, d.Key)
	}
	return strings.Join(all, " ")
}

// Whatever key there is has a text, so that no difference of it is missed.
func TestEverySettingIsCompared(t *testing.T) {
	got := Default().Texts()
	for key := range fields() {
		if _, ok := got[key]; !ok {
			t.Errorf("%s is not among the settings", key)
		}
	}
}

// A digest belongs to what somebody has set, and to nothing else.
func TestOnlyWhatIsSetHasADigest(t *testing.T) {
	for text, want := range map[string]string{
		"":                "",
		"refresh: 5s\n":   "",
		"refresh: 1s\n":   "refresh",
		"scopes: {a: {}}": "scopes.a",
		"scopes: {a: {period: 90m, ticket_lifetime: 30m}}\n":   "scopes.a scopes.a.period scopes.a.ticket_lifetime",
		"events: nats://me:secret@a\nexpected_nodes: [a, b]\n": "events expected_nodes",
	} {
		c, err := load(t, text, nil)
		if err != nil {
			t.Fatal(err)
		}
		d := c.Digests([]byte("k"))
		for _, key := range []string{"", "scopes.default", "data_dir", "xds_listen"} {
			delete(d, key)
		}
		if got := strings.Join(slices.Sorted(maps.Keys(d)), " "); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

// fields are the keys of a file with the scope default.
func fields() map[string]bool {
	all := map[string]bool{}
	for key, t := range strictyaml.Fields(reflect.TypeFor[file]()) {
		switch key {
		case "scopes":
			for k := range strictyaml.Fields(reflect.TypeFor[policyFile]()) {
				all["scopes.default."+k] = true
			}
		case "listeners":
			for k := range strictyaml.Fields(t) {
				all["listeners."+k] = true
			}
		default:
			all[key] = true
		}
	}
	return all
}
