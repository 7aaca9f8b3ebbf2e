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
		Rules: timeouts(map[string]pages.Rule{
			"":                        {"type": "object", "required": []string{"node", "listeners", "routes"}},
			"node":                    {"minLength": 1},
			"xds":                     {"pattern": pages.Addresses},
			"ticket_lifetime":         pages.Positive,
			"listeners":               {"minItems": 1},
			"routes":                  {"minItems": 1},
			"admin_listen":            {"pattern": pages.OptionalPort},
			"access_log":              pages.OneOf("on", "off"),
			"log_level":               pages.OneOf(logs.Levels...),
			"log_format":              pages.OneOf(logs.Formats...),
			"listeners[]":             {"required": []string{"address"}},
			"listeners[].address":     {"pattern": pages.Port},
			"listeners[].min_version": versions,
			"listeners[].connections": {"minimum": 0},
			"listeners[].health_path": {"pattern": "^(|/[^?#% ]+)$"},
			"listeners[].proxy_protocol": {
				"items": map[string]any{"type": "string", "pattern": "^[0-9A-Fa-f:.]+/[0-9]+$"},
			},
			"routes[]":      {"required": []string{"upstreams"}},
			"routes[].path": {"pattern": "^(|/.*)$"},
			"routes[].upstreams": {
				"minItems": 1, "items": map[string]any{"type": "string", "pattern": "^(https?|h2c)://[^/?#@]+/?$"},
			},
			"limits.header_bytes": {"minimum": 1024, "maximum": 1048576},
			"limits.streams":      {"minimum": 1},
			"limits.names":        {"minimum": 10, "maximum": 1_000_000},
		}),
	}.Page(t))
}

// timeouts adds the rules of the timeouts, which are all the same.
func timeouts(to map[string]pages.Rule) map[string]pages.Rule {
	for key := range strictyaml.Fields(reflect.TypeFor[edgeproxy.Timeouts]()) {
		to["timeouts."+key] = pages.Positive
	}
	return to
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
		least, least + "xds: unix:/x,a:1\nadmin_listen: ''\n",
		least + "xds: 127.0.0.1:1\nkek:\n",
		strings.Replace(least, "node: a", "node: 5", 1),
		least + "limits: {names: 10}\ntimeouts: {drain: 1m30s}\n", least + "limits:\ntimeouts:\n",
		least + "preload: [shop.example]\ntrusted_proxies: [10.0.0.0/8]\naccess_log: off\n",
		strings.Replace(least, "{address", "{min_version: \"1.3\", connections: 5, address", 1),
		strings.Replace(least, "{address", "{proxy_protocol: [10.0.0.0/8, \"2001:db8::/32\"], address", 1),
		strings.Replace(least, "{address", "{min_version: 1.3, address", 1),
		strings.Replace(least, "{address", "{client_ca: ca.pem, xfcc_cert: true, address", 1),
		strings.Replace(least, "{address", "{health_path: /-/healthy, address", 1),
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
		strings.Replace(least, "node: a\n", "", 1), strings.Replace(least, "node: a", "node: ''", 1),
		least + "xds: nonsense\n", least + "xds: a:1,b\n", least + "ticket_lifetime: 48h\n",
		least + "ticket_lifetime: 0s\n", least + "admin_listen: x\n", least + "admin_listen: a:b:c\n",
		least + "timeouts: {drain: 0}\n", least + "timeouts: {drain: 25h}\n", least + "access_log: true\n",
		least + "limits: {names: \"100\"}\n", "", "node: a\n", least + "nonsense: 1\n", least + "limits: {name: 10}\n",
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
		strings.Replace(least, "{address", "{proxy_protocol: [10.0.0.1], address", 1),
		strings.Replace(least, "{address", "{proxy_protocol: 10.0.0.0/8, address", 1),
		strings.Replace(least, "{address", "{client_ca: ca.pem, xfcc_cert: whole, address", 1),
		strings.Replace(least, "{address", "{health_path: /, address", 1),
		strings.Replace(least, "{address", "{health_path: healthy, address", 1),
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
