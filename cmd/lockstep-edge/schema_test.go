package main

import (
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"github.com/lockstep-tls/lockstep/cmd/internal/bootstrap"
	"github.com/lockstep-tls/lockstep/cmd/internal/edge"
	"github.com/lockstep-tls/lockstep/cmd/internal/logs"
	"github.com/lockstep-tls/lockstep/cmd/internal/settings"
	"github.com/lockstep-tls/lockstep/cmd/internal/strictyaml"
	"github.com/lockstep-tls/lockstep/edgeproxy"
	"github.com/lockstep-tls/lockstep/test/pages"
)

const schema = "docs/reference/lockstep-edge.schema.json"

func TestReferenceOfTheSchema(t *testing.T) {
	c := edge.Default()
	versions := pages.Rule{"type": []string{"string", "number"}, "enum": []any{"1.2", "1.3", 1.2, 1.3}}
	pages.Golden(t, schema, pages.Schema{
		Title: "Settings of lockstep-edge", Default: c,
		Lists: map[string]any{
			"listeners": edgeproxy.Listener{Scope: "default", MinVersion: "1.2"},
			"routes":    edgeproxy.Route{Host: "*", Path: "/"},
		},
		Rules: map[string]pages.Rule{
			"":                        {"type": "object", "required": []string{"listeners", "routes"}},
			"listeners":               {"minItems": 1},
			"routes":                  {"minItems": 1},
			"admin_listen":            {"pattern": pages.Port},
			"access_log":              pages.OneOf("on", "off"),
			"log_level":               pages.OneOf(logs.Levels...),
			"log_format":              pages.OneOf(logs.Formats...),
			"listeners[]":             {"required": []string{"address"}},
			"listeners[].address":     {"pattern": "^.*:[0-9A-Za-z-]*$"},
			"listeners[].min_version": versions,
			"listeners[].connections": {"minimum": 0},
			"routes[]":                {"required": []string{"upstreams"}},
			"routes[].path":           {"pattern": "^(|/.*)$"},
			"routes[].upstreams": {
				"minItems": 1, "items": map[string]any{"type": "string", "pattern": "^(https?|h2c)://[^/?#@]+/?$"},
			},
			"limits.header_bytes": {"minimum": 1024, "maximum": 1048576},
			"limits.streams":      {"minimum": 1},
			"limits.names":        {"minimum": 10, "maximum": 1_000_000},
		},
	}.Page(t))
}

// What an editor offers is what lockstep-edge takes, key by key.
func TestTheSchemaHasTheKeysOfTheConfiguration(t *testing.T) {
	var want []string
	for key := range settings.Flatten(edge.Default()) {
		if key != "listeners" && key != "routes" {
			want = append(want, key)
		}
	}
	for list, entry := range map[string]reflect.Type{
		"listeners": reflect.TypeFor[edgeproxy.Listener](), "routes": reflect.TypeFor[edgeproxy.Route](),
	} {
		for key := range strictyaml.Fields(entry) {
			want = append(want, list+"[]."+key)
		}
	}
	slices.Sort(want)
	if have := pages.SchemaKeys(t, schema); !slices.Equal(have, want) {
		t.Errorf("the schema has\n%q\nand the configuration\n%q", have, want)
	}
}

func TestTheSchemaAndTheEdgeTakeTheSameFiles(t *testing.T) {
	const least = "node: a\nlisteners: [{address: \"127.0.0.1:1\"}]\nroutes: [{upstreams: [\"http://127.0.0.1:1\"]}]\n"
	for _, good := range []string{
		least, least + "limits: {names: 10}\ntimeouts: {drain: 1m30s}\n", least + "limits:\ntimeouts:\n",
		least + "preload: [shop.example]\ntrusted_proxies: [10.0.0.0/8]\naccess_log: off\n",
		strings.Replace(least, "{address", "{min_version: \"1.3\", connections: 5, address", 1),
		strings.Replace(least, "{address", "{min_version: 1.3, address", 1),
		strings.Replace(least, "{upstreams", "{host: \"*.example\", path: /a/, upstreams", 1),
		strings.Replace(least, "{upstreams",
			"{body: 2h, upstream_dial: 1s, upstream_header: 10m, upstream_idle: 1s, upstreams", 1),
		strings.Replace(least, "{upstreams: [\"http:",
			"{upstream_name: a.example, upstream_cert: a.pem, upstream_key: b.pem, upstreams: [\"https:", 1),
	} {
		if err := pages.Valid(t, schema, []byte(good)); err != nil {
			t.Errorf("%q: the schema: %v", good, err)
		}
		if err := load(t, good); err != nil {
			t.Errorf("%q: lockstep-edge: %v", good, err)
		}
	}
	for _, bad := range []string{
		// keys
		"", "node: a\n", least + "nonsense: 1\n", least + "limits: {name: 10}\n",
		strings.Replace(least, "{address", "{adress: x, address", 1),
		strings.Replace(least, "upstreams", "upstream", 1),
		// types
		least + "limits: [1]\n", least + "limits: {names: many}\n", least + "preload: shop.example\n",
		// durations
		least + "timeouts: {drain: 30}\n", least + "timeouts: {drain: a minute}\n", least + "ticket_lifetime: 1d\n",
		// values
		least + "access_log: maybe\n", least + "log_level: trace\n", least + "limits: {streams: 0}\n",
		strings.Replace(least, "{address", "{min_version: \"1.1\", address", 1),
		strings.Replace(least, "127.0.0.1:1\"}]", "127.0.0.1\"}]", 1), strings.Replace(least, "http:", "ftp:", 1),
		strings.Replace(least, "{upstreams", "{path: a, upstreams", 1),
		strings.Replace(least, "{upstreams", "{upstream_idle: soon, upstreams", 1),
		strings.Replace(least, "{upstreams", "{upstream_name: [a.example], upstreams", 1),
	} {
		if err := pages.Valid(t, schema, []byte(bad)); err == nil {
			t.Errorf("%q: the schema takes it", bad)
		}
		if err := load(t, bad); err == nil {
			t.Errorf("%q: lockstep-edge takes it", bad)
		}
	}
}

// load reads a configuration as lockstep-edge does.
func load(t *testing.T, text string) error {
	t.Helper()
	path := filepath.Join(t.TempDir(), "edge.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c := edge.Default()
	f := pflag.NewFlagSet("", pflag.ContinueOnError)
	c.Flags(f)
	return c.Load(path, f, func(string) string { return "" })
}

func TestTheExampleAndTheBootstrapFollowTheSchema(t *testing.T) {
	example, err := os.ReadFile(filepath.Join(pages.Root(t), "deploy/edge/edge.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	made, err := bootstrap.Edge(bootstrap.Options{
		Node: "1e3", XDS: []string{"a.example:18000"}, Scope: "blue", Admin: "127.0.0.1:9901",
		Listen: "0.0.0.0:8443", Upstream: "127.0.0.1:8080",
		TLS: &bootstrap.TLS{CA: "ca.pem", Cert: "c.pem", Key: "k.pem", ServerName: "lockstepd.example"},
	}, "data")
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range [][]byte{example, made} {
		if err := pages.Valid(t, schema, text); err != nil {
			t.Errorf("%v\n%s", err, text)
		}
	}
}
