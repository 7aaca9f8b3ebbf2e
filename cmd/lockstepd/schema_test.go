package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"github.com/lockstep-tls/lockstep/cmd/internal/config"
	"github.com/lockstep-tls/lockstep/cmd/internal/logs"
	"github.com/lockstep-tls/lockstep/keysource/eager"
	"github.com/lockstep-tls/lockstep/rotation"
	"github.com/lockstep-tls/lockstep/test/pages"
)

const schema = "docs/reference/lockstepd.schema.json"

func TestReferenceOfTheSchema(t *testing.T) {
	c := config.Default()
	c.Listeners = config.Listeners{Scope: "default", MaxEager: eager.DefaultMax}
	names := pages.Rule{"minimum": 1, "maximum": 100_000}
	pages.Golden(t, schema, pages.Schema{
		Title: "Settings of lockstepd", Default: c, Named: map[string]any{"scopes": rotation.DefaultPolicy()},
		Rules: map[string]pages.Rule{
			"xds_listen": {"pattern": pages.OptionalAddress},
			// For some readers of YAML 0660 is the number 432, for others 660.
			"xds_socket_mode": {
				"type": []string{"string", "integer"}, "pattern": "^(|0*[67][0-7]{2})$", "minimum": 0o600,
				"maximum": 777,
			},
			"admin_listen":   {"pattern": pages.Address},
			"metrics_listen": {"pattern": pages.OptionalAddress},
			"nats_listen":    {"pattern": pages.OptionalPort},
			"refresh":        pages.OneHour,
			"store": {"pattern": `^(embedded|(nats|tls|redis|rediss|redis\+sentinel|rediss\+sentinel|` +
				`redis\+cluster|rediss\+cluster)://.*)$`},
			"events":         {"pattern": "^(embedded|(nats|tls)://.*)$"},
			"spiffe_socket":  {"pattern": "^(|(unix|tcp):.*)$"},
			"audit_syslog":   {"pattern": "^(|local|unix:.+|tcp://.+)$"},
			"node_names":     names,
			"wildcard_names": names,
			"expected_nodes": {"items": map[string]any{
				"type": []string{"string", "number", "boolean"}, "minLength": 1,
			}},
			"log_level":           pages.OneOf(logs.Levels...),
			"log_format":          pages.OneOf(logs.Formats...),
			"listeners.max_eager": {"minimum": 0},
			"scopes": {
				"propertyNames": map[string]any{"pattern": "^[a-z0-9_-]{1,63}$"},
				"description":   "The sets of ticket keys, by name. The scope default always exists.",
			},
			"scopes.*.quorum": {
				"type": []string{"string", "number"}, "exclusiveMinimum": 0, "maximum": 1,
				"pattern": `^(0*\.[0-9]*[1-9][0-9]*|0*1(\.0*)?|` +
					`0*([1-9][0-9]?(\.[0-9]*)?|\.[0-9]*[1-9][0-9]*|100(\.0*)?)%)$`,
			},
			"scopes.*.period":          pages.Unbounded,
			"scopes.*.ticket_lifetime": pages.Positive,
			"scopes.*.max_key_age":     pages.Positive,
			"scopes.*.node_lease":      pages.Unbounded,
			"scopes.*.laggard": {
				"type": []string{"string", "integer"}, "minimum": 0, "maximum": 0,
				"pattern": strings.Replace(pages.Duration, "^(", "^(wait|", 1), "default": "wait",
			},
			"scopes.*.client_certs": {
				"type":     []string{"string", "array"},
				"pattern":  `^(none|(sha256:)?[0-9A-Fa-f:]{64,95}(, *(sha256:)?[0-9A-Fa-f:]{64,95})*)$`,
				"items":    map[string]any{"type": "string", "pattern": "^(sha256:)?[0-9A-Fa-f:]{64,95}$"},
				"minItems": 1,
			},
		},
	}.Page(t))
}

// aSum is a SHA-256 that no CA has.
var aSum = strings.Repeat("ab", 32)

// What an editor offers is what lockstepd takes, key by key.
func TestTheSchemaHasTheKeysOfTheConfiguration(t *testing.T) {
	var want []string
	for key := range config.Default().Texts() {
		want = append(want, strings.Replace(key, "scopes.default.", "scopes.*.", 1))
	}
	slices.Sort(want)
	if have := pages.SchemaKeys(t, schema); !slices.Equal(have, want) {
		t.Errorf("the schema has\n%q\nand the configuration\n%q", have, want)
	}
}

func TestTheSchemaAndLockstepdTakeTheSameFiles(t *testing.T) {
	for _, good := range []string{
		"", "refresh: 1s\n", "canary: \"0\"\n", "canary: 0\n", "canary: 0s\n",
		"scopes: {default: {laggard: 0}}\n",
		"expected_nodes: [1, edge-2]\n", "expected_nodes:\n",
		"node_names:\n", "kek: null\nrefresh:\nlog_level:\n",
		"scopes: {default: {quorum: 1}}\n", "scopes: {default: {quorum: 0.5%}}\n",
		"scopes: {default: {quorum: \".9\"}}\n",
		"scopes: {default: {quorum: 100.0%, period: }}\n",
		"xds_socket_group: 1000\nxds_listen: unix:/run/x/xds.sock\n",
		"scopes: {default: {client_certs: [" + aSum + ", 'sha256:" + aSum + "']}}\n",
		"scopes: {default: {client_certs: '" + aSum + ", " + aSum + "'}}\n",
		"scopes:\n  default:\n    client_certs:\n    - " + aSum + "\n    - " + aSum + "\n",
		"scopes: {default: {max_key_age: 24h}}\nrefresh: 60m\n", "scopes: {default: {max_key_age: 1.25h}}\n",
		"metrics_listen: \"\"\nxds_listen: \"\"\n", "admin_listen: \"[::1]:1\"\n", "certs: 5\n",
		"scopes:\n  default:\n    quorum: 0.9\n    laggard: wait\n",
		"scopes: {default: {quorum: 95%, laggard: 10m30s, period: 1h, client_certs: none}, two: }\n", "listeners:\n",
		"xds_socket_mode: 0660\nxds_socket_group: g\nxds_listen: unix:/run/x/xds.sock\n",
		"xds_listen: 127.0.0.1:1\nxds_open: true\nlog_format: text\nlog_level: debug\n",
		"listeners: {template: l.yaml, hosts: [a.example], match: [\"*\"], max_eager: 5}\nexpected_nodes: [edge-1]\n",
	} {
		if err := pages.Valid(t, schema, []byte(good)); err != nil {
			t.Errorf("%q: the schema: %v", good, err)
		}
		if err := load(t, good); err != nil {
			t.Errorf("%q: lockstepd: %v", good, err)
		}
	}
	for _, bad := range []string{
		// keys
		"nonsense: 1\n", "scopes: {default: {perod: 1h}}\n", "listeners: {template: l.yaml, hots: [a.example]}\n",
		// types
		"refresh: 5\n", "refresh: [5s]\n", "node_names: many\n", "xds_open: perhaps\n", "scopes: [default]\n",
		"listeners: l.yaml\n", "expected_nodes: {a: b}\n", "scopes: {default: {period: true}}\n", "canary: 5\n",
		// durations
		"refresh: 5 minutes\n", "scopes: {default: {period: 1d}}\n", "scopes: {default: {laggard: never}}\n",
		// values
		"log_level: trace\n", "log_format: xml\n", "store: mysql://host/db\n", "node_names: 0\n",
		"xds_listen: /run/xds.sock\n", "admin_listen: localhost\n", "scopes: {Default: {}}\n",
		"expected_nodes: ['']\n", "xds_socket_mode: rw\n", "events: http://host\n",
		"admin_listen: ''\n", "xds_listen: a:b:c\n", "metrics_listen: x\n", "xds_socket_mode: \"0400\"\n",
		"xds_socket_mode: 0400\n", "node_names: \"100\"\n", "node_names: 1.5\n", "node_names: true\n", "xds_open: 1\n",
		"xds_open: \"true\"\n", "store: [a]\n", "store: 5\n", "expected_nodes: a\n", "refresh: ''\n",
		"refresh: 0s\n", "refresh: 0\n", "refresh: 1000h\n", "refresh: 2h\n", "canary: 1\n",
		"scopes: {default: {quorum: 0}}\n", "scopes: {default: {quorum: -1}}\n", "scopes: {default: {quorum: 1.1}}\n",
		"scopes: {default: {quorum: 110%}}\n", "scopes: {default: {quorum: 0%}}\n",
		"scopes: {default: {quorum: \"9e-1\"}}\n", "scopes: {default: {quorum: nan}}\n",
		"scopes: {default: {quorum: 0.0}}\n", "scopes: {default: {quorum: \"\"}}\n",
		"scopes: {default: {max_key_age: 25h}}\n", "scopes: {default: {max_key_age: 1m125h}}\n",
		"scopes: {default: {period: 0s}}\n", "scopes: {default: {period: 0}}\n",
		"scopes: {default: {ticket_lifetime: 48h}}\n", "scopes: {default: {node_lease: 0m0s}}\n",
		"scopes: {default: {laggard: 1}}\n",
		"scopes: {default: {quorum: most}}\n", "scopes: {default: {client_certs: some}}\n",
		"scopes: {default: {client_certs: []}}\n", "scopes: {default: {client_certs: [none]}}\n",
	} {
		if err := pages.Valid(t, schema, []byte(bad)); err == nil {
			t.Errorf("%q: the schema takes it", bad)
		}
		if err := load(t, bad); err == nil {
			t.Errorf("%q: lockstepd takes it", bad)
		}
	}
}

// load reads a configuration as lockstepd does.
func load(t *testing.T, text string) error {
	t.Helper()
	path := filepath.Join(t.TempDir(), "lockstepd.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c := config.Default()
	f := pflag.NewFlagSet("", pflag.ContinueOnError)
	c.Flags(f)
	home := t.TempDir()
	return c.Load(path, f, func(name string) string { return map[string]string{"HOME": home}[name] })
}

func TestTheExamplesOfThePagesFollowTheSchema(t *testing.T) {
	found := 0
	for _, e := range pages.Examples(t, pages.SchemaKeys(t, schema)) {
		found++
		if err := pages.Valid(t, schema, e.Text); err != nil {
			t.Errorf("%s: %v", e.At, err)
		}
		if err := load(t, string(e.Text)); err != nil {
			t.Errorf("%s: %v", e.At, err)
		}
	}
	if found < 2 {
		t.Fatalf("only %d examples were found", found)
	}
}
