package edge

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/lockstep-tls/lockstep/internal/testkit"
)

// TestNoBrokenFileGetsPastTheCheck: whatever is wrong with an address, a duration, a file or a
// name, the check says that a start would be refused if and only if it is.
func TestNoBrokenFileGetsPastTheCheck(t *testing.T) {
	t.Parallel()
	const (
		least = "node: a\nadmin_listen: 127.0.0.1:0\n"
		web   = "listeners: [{address: \"127.0.0.1:0\"}]\nroutes: [{upstreams: [\"http://127.0.0.1:1\"]}]\n"
	)
	listener := func(more string) string {
		return "node: a\nlisteners: [{address: \"127.0.0.1:0\", " + more +
			"}]\nroutes: [{upstreams: [\"http://127.0.0.1:1\"]}]\n"
	}
	route := func(more string) string {
		return "node: a\nlisteners: [{address: \"127.0.0.1:0\"}]\nroutes: [{" + more + "}]\n"
	}
	files := []string{
		route("host: \"a..b\", upstreams: [\"http://h:1\"]"), route("path: //, upstreams: [\"http://h:1\"]"),
		route("path: a, upstreams: [\"http://h:1\"]"), route("upstreams: []"), route("upstreams: [\"h:1\"]"),
		route("upstreams: [\"http://h:99999\"]"), route("upstreams: [\"http://h:x\"]"),
		route("upstreams: [\"http://:80\"]"), route("upstreams: [\"http://h:1/path\"]"),
		route("upstreams: [\"http://h:1\"], upstream_ca: DIR/ca"),
		route("upstreams: [\"https://h:1\"], upstream_ca: DIR"),
		route("upstreams: [\"https://h:1\"], upstream_ca: DIR/none"),
		route("upstreams: [\"http://h:1\"]}, {upstreams: [\"http://h:2\"]"),
		listener("min_version: 1.1"), listener("scope: ''"), listener("fallback: a..b"), listener("connections: -1"),
		listener("client_ca: DIR/none"), listener("client_ca: DIR"), listener("client_names: [a.example]"),
		listener("client_ca: DIR/ca, client_names: [\"[\"]"), listener("client_ca: DIR/ca, client_names: ['']"),
		strings.Replace(least+web, "{address: \"127.0.0.1:0", "{address: \"x", 1),
		strings.Replace(least+web, "{address: \"127.0.0.1:0", "{address: \"127.0.0.1:99999", 1),
		strings.Replace(least+web, "{address: \"127.0.0.1:0", "{address: \"127.0.0.1:nosuchservice", 1),
		strings.Replace(least+web, "{address: \"127.0.0.1:0", "{address: \"[::1", 1),
		strings.Replace(least+web, "{address: \"127.0.0.1:0", "{address: \"unix:DIR/x.sock", 1),
	}
	for _, admin := range []string{"x", "a:b:c", "127.0.0.1:99999", "127.0.0.1:no-port", "unix:DIR/a.sock", "'[::1'",
		"''"} {
		files = append(files, "node: a\nadmin_listen: "+admin+"\n"+web)
	}
	for _, more := range []string{
		"", "xds: nonsense", "xds: a:b:c", "xds: 127.0.0.1:99999", "xds: 127.0.0.1:nosuchservice", "xds: 'a:1,'",
		"xds: unix:", "xds: unix:relative.sock", "xds: unix:@abstract", "xds: http://a:1",
		"xds: unix:/" + strings.Repeat("a", 120),
		"xds_cert: DIR/none", "xds_cert: DIR/none\nxds_key: DIR/none\nxds_ca: DIR/none",
		"xds_cert: DIR\nxds_key: DIR\nxds_ca: DIR", "xds_name: a.example",
		"kek: DIR/none", "data_dir: DIR/file", "data_dir: DIR/d\nkek: DIR",
		"data_dir: DIR/d\nkek: env:LOCKSTEP_TEST_NONE",
		"data_dir: DIR/d\nkek: credential:none", "data_dir: DIR/d\nkek: DIR/no/key", "data_dir: DIR/d\nkek: env:",
		"ticket_lifetime: 0s", "ticket_lifetime: 48h", "ticket_lifetime: soon", "timeouts: {drain: 0}",
		"timeouts: {load: 25h}", "timeouts: {load: -1s}", "limits: {names: 1}", "limits: {header_bytes: 1}",
		"preload: [a..b]", "preload: ['']", "trusted_proxies: [10.0.0.1]", "trusted_proxies: [x]", "log_level: x",
		"access_log: true", "cluster: ''",
	} {
		files = append(files, least+web+more+"\n")
	}
	if len(files) < 60 {
		t.Fatalf("only %d files", len(files))
	}
	refused := 0
	for i, text := range files {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			dir, err := os.MkdirTemp("", "agree-")
			testkit.Check(t, err)
			t.Cleanup(func() { testkit.Check(t, os.RemoveAll(dir)) })
			c := checked{t, dir}
			c.write("file", "")
			c.write("ca", "nothing")
			file := c.write("edge.yaml", text)
			said, code := c.check(file)
			err = c.start(file)
			if (err != nil) != (code == 5) {
				t.Errorf("the check ends with %d, and the start says %v:\n%s\n%s", code, err, text, said)
			}
			if err != nil {
				refused++
			}
		})
	}
	if refused < 40 {
		t.Errorf("only %d files were refused", refused)
	}
}
