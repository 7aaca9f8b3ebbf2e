package plane

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
)

// TestNoBrokenFileGetsPastTheCheck: whatever is wrong with an address, a URL, a duration, a file or
// a name, the check says that a start would be refused if and only if it is. What only a server
// elsewhere can say is not among the files.
func TestNoBrokenFileGetsPastTheCheck(t *testing.T) {
	t.Parallel()
	files := []string{
		"xds_listen: x", "xds_listen: a:b:c", "xds_listen: 127.0.0.1:99999\nxds_open: true",
		"xds_listen: 127.0.0.1:nosuchservice\nxds_open: true", "xds_listen: 'unix:'",
		"xds_listen: unix:@abstract", "xds_listen: unix:/" + strings.Repeat("a", 120),
		"xds_listen: unix:DIR/none/none/x.sock", "xds_listen: unix:DIR", "xds_listen: 127.0.0.1:0",
		"xds_listen: 192.0.2.1:1", "xds_socket_mode: rw", "xds_socket_mode: 0400", "xds_socket_mode: 0666",
		"xds_socket_mode: 0o660", "xds_socket_group: no-such-group",
		"xds_listen: unix:DIR/run/x.sock\nxds_socket_group: '99999999999'", "admin_listen: ''",
		"admin_listen: x", "admin_listen: a:b:c", "admin_listen: 127.0.0.1:99999",
		"admin_listen: 127.0.0.1:nosuchservice", "admin_listen: unix:", "admin_listen: unix:DIR/none/a.sock",
		"admin_listen: 192.0.2.1:1", "admin_client_ca: DIR/none", "metrics_listen: x",
		"metrics_listen: a:b:c", "metrics_listen: 127.0.0.1:99999", "metrics_listen: unix:DIR/none/m.sock",
		"metrics_listen: 'unix:'", "metrics_listen: unix:@m",
		"metrics_listen: unix:/" + strings.Repeat("a", 120), "nats_listen: x",
		"nats_listen: 127.0.0.1:99999", "nats_listen: 127.0.0.1:nosuchservice",
		"nats_listen: unix:DIR/n.sock", "nats_listen: a:b:c", "nats_listen: localhost:0",
		"nats_listen: 0.0.0.0:0", "events: nats://127.0.0.1:1?creds=DIR/none",
		"events: nats://127.0.0.1:1?foo=1", "events: nats://", "events: nats://127.0.0.1:99999",
		"events: nats://127.0.0.1:x", "events: http://127.0.0.1:1", "events: ''", "store: ''",
		"store: mysql://h", "store: redis://", "store: redis://127.0.0.1:1?foo=1",
		"store: redis://127.0.0.1:x", "store: nats://127.0.0.1:1?foo=1",
		"store: nats://127.0.0.1:1?creds=DIR/none", "store: nats://127.0.0.1:x",
		"store: redis+sentinel://127.0.0.1:1", "store: redis+cluster://127.0.0.1:1/3",
		"store: redis://127.0.0.1:1/x", "refresh: 0", "refresh: 2h", "canary: 1ms", "canary: 0",
		"node_names: 0", "wildcard_names: 200000", "expected_nodes: ['']", "audit_syslog: x",
		"audit_syslog: 'unix:'", "audit_syslog: tcp://x", "audit_syslog: tcp://127.0.0.1:99999",
		"log_level: x", "log_format: x", "spiffe_socket: x", "spiffe_socket: unix:",
		"spiffe_socket: tcp://x", "xds_cert: DIR/none", "certs: DIR/file", "certs: DIR/none", "policy: DIR",
		"policy: DIR/file", "kek: DIR", "kek: 'env:'", "kek: 'credential:'", "kek: credential:../x",
		"data_dir: DIR/file", "data_dir: ''", "listeners: {hosts: [a.example]}",
		"listeners: {template: DIR}", "listeners: {template: DIR/file}",
		"listeners: {template: DIR/file, scope: none}", "listeners: {template: DIR/file, match: ['[']}",
		"scopes: {a b: {}}", "scopes: {default: {period: 1ms}}", "scopes: {default: {quorum: 0}}",
		"scopes: {default: {quorum: nan}}", "scopes: {default: {laggard: -1s}}",
		"scopes: {default: {client_certs: x}}", "scopes: {default: {period: 1s, ticket_lifetime: 24h}}",
	}
	var refused atomic.Int32
	t.Run("files", func(t *testing.T) {
		for i, text := range files {
			t.Run(fmt.Sprint(i), func(t *testing.T) {
				t.Parallel()
				s := newStage(t, text+"\n")
				s.write("file", "")
				said, code := s.check()
				err := s.start()
				if (err != nil) != (code == 5) {
					t.Errorf("the check ends with %d, and the start says %v:\n%s\n%s", code, err, text, said)
				}
				if err != nil {
					refused.Add(1)
				}
			})
		}
	})
	if n := refused.Load(); n < 60 {
		t.Errorf("only %d files were refused", n)
	}
}
