package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"
)

func load(t *testing.T, yaml string, env map[string]string, args ...string) (Config, error) {
	t.Helper()
	c := Default()
	f := pflag.NewFlagSet("test", pflag.ContinueOnError)
	c.Flags(f)
	if err := f.Parse(args); err != nil {
		t.Fatal(err)
	}
	file := ""
	if yaml != "" {
		file = filepath.Join(t.TempDir(), "lockstep.yaml")
		if err := os.WriteFile(file, []byte(yaml), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return c, c.Load(file, f, func(k string) string { return env[k] })
}

func TestAFlagWinsOverTheEnvironmentAndThatOverTheFile(t *testing.T) {
	c, err := load(t, "refresh: 1s\ncerts: /file\nxds_listen: 127.0.0.1:1\nxds_open: true\n",
		map[string]string{"LOCKSTEP_REFRESH": "2s", "LOCKSTEP_CERTS": "/env"}, "--refresh", "3s")
	if err != nil {
		t.Fatal(err)
	}
	if c.Refresh != 3*time.Second || c.Certs != "/env" || c.XDSListen != "127.0.0.1:1" {
		t.Fatalf("refresh %s certs %s xds %s", c.Refresh, c.Certs, c.XDSListen)
	}
}

func TestScopesTakeTheirDefaultsOneByOne(t *testing.T) {
	c, err := load(t, "scopes:\n  default:\n    period: 10m\n  partners:\n    quorum: 95%\n    laggard: 3m\n"+
		"    ticket_lifetime: 30m\n", nil)
	if err != nil {
		t.Fatal(err)
	}
	if d := c.Scopes["default"]; d.Period != 10*time.Minute || d.TicketLifetime != 2*time.Hour || d.Quorum != 0.9 {
		t.Fatalf("%+v", d)
	}
	if p := c.Scopes["partners"]; p.Quorum != 0.95 || p.Laggard != 3*time.Minute || p.Period != time.Hour {
		t.Fatalf("%+v", p)
	}
}

func TestListenersTakeTheirDefaults(t *testing.T) {
	c, err := load(t, "listeners:\n  template: l.yaml\n  hosts: [Shop.example., \"*.Blog.example\"]\n"+
		"  match: [\"API-*\"]\n", nil)
	if err != nil {
		t.Fatal(err)
	}
	l := c.Listeners
	if n := l.Names(); l.Scope != "default" || l.MaxEager != 2000 || len(n) != 2 || n[0] != "shop.example" ||
		n[1] != "*.blog.example" || l.Match[0] != "api-*" {
		t.Fatalf("%+v, hosts %v", l, n)
	}
}

func TestWhatCannotBeKeptIsRefusedByName(t *testing.T) {
	for _, c := range []struct{ yaml, want string }{
		{"nonsense: 1\n", "nonsense"},
		{"scopes:\n  default:\n    perod: 1h\n", "perod"},
		{"scopes:\n  default:\n    period: 10s\n    ticket_lifetime: 2h\n", "ring of"},
		{"scopes:\n  default:\n    ticket_lifetime: 25h\n", "ticket_lifetime"},
		{"scopes:\n  Upper:\n    period: 1h\n", "Upper"},
		{"scopes:\n  default:\n    quorum: most\n", "quorum"},
		{"xds_listen: 0.0.0.0:18000\n", "plaintext is refused"},
		{"admin_listen: 192.0.2.1:18080\n", "plaintext is refused"},
		{"xds_cert: a.pem\n", "go together"},
		{"store: mysql://user:secret@host\n", "neither embedded nor"},
		{"refresh: 1ms\n", "refresh"},
		{"spiffe_socket: unix:/s\nxds_cert: a\nxds_key: b\nxds_client_ca: c\n", "takes the place"},
		{"spiffe_socket: /run/s\n", "spiffe_socket"},
		{"admin_client_ca: c\nspiffe_socket: unix:/s\nadmin_listen: 192.0.2.1:1\n", "goes with xds_cert"},
		{"admin_client_ca: c\nxds_cert: a\nxds_key: b\nxds_client_ca: c\n", "speaks plaintext on 127.0.0.1"},
		{"metrics_listen: 9090\n", "metrics_listen"},
		{"scopes:\n  default:\n    client_certs: some\n", "client_certs"},
		{"scopes:\n  default:\n    client_certs: [some]\n", "client_certs"},
		{"scopes:\n  default:\n    client_certs: []\n", "client_certs"},
		{"scopes:\n  default:\n    client_certs: [none, none]\n", "client_certs"},
		{"listeners:\n  hosts: [a.example]\n", "template is missing"},
		{"listeners:\n  template: l.yaml\n  scope: other\n", "\"other\" is not among the scopes"},
		{"listeners:\n  template: l.yaml\n  hosts: [a b.example]\n", "not a server name"},
		{"listeners:\n  template: l.yaml\n  hosts: [a.example, A.example.]\n", "stands there twice"},
		{"listeners:\n  template: l.yaml\n  match: [\"[a\"]\n", "no glob"},
		{"listeners:\n  template: l.yaml\n  max_eager: -1\n", "max_eager"},
		{"listeners:\n  templat: l.yaml\n", "templat"},
		{"log_level: trace\n", "log_level"},
		{"log_format: xml\n", "log_format"},
	} {
		_, err := load(t, c.yaml, nil)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: %v, want %q in it", c.yaml, err, c.want)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("the error shows a password: %v", err)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		"", "refresh: 1s\n", "scopes:\n  default:\n    period: 10m\n    quorum: 95%\n    laggard: 3m\n",
		"scopes:\n  a: null\n", "scopes: [1]\n",
		"xds_listen: unix:/run/x\nadmin_listen: '[::1]:1'\n", "xds_listen: 127.0.0.1:1\nxds_open: true\n",
		"xds_listen: unix:/s\nxds_socket_mode: 0660\nxds_socket_group: g\n", "policy: p\nxds_socket_mode: '0666'\n",
		"scopes: {default: {ticket_lifetime: 1s, period: 1s, max_key_age: 24h}}\n", "a: &a [*a]\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		c := Default()
		if c.Parse(b) != nil || c.places(0, func(string) string { return "" }) != nil || c.Check() != nil {
			return
		}
		// What is let through can be kept: no plaintext leaves the machine, nobody gets everything
		// unless that was said, no ring outgrows its bound.
		if tcp := !strings.HasPrefix(c.XDSListen, "unix:"); !c.MTLS() && c.Policy == "" && !c.XDSOpen &&
			(tcp || c.SocketMode()&0o002 != 0) {
			t.Errorf("whoever connects to %s gets everything", c.XDSListen)
		}
		for name, p := range c.Scopes {
			if err := p.Check(); err != nil {
				t.Errorf("scope %q: %v", name, err)
			}
			if keys := 1 + int(p.TicketLifetime/p.Period); keys > 16 {
				t.Errorf("scope %q needs %d keys", name, keys)
			}
		}
		if _, ok := c.Scopes["default"]; !ok {
			t.Error("the scope default is gone")
		}
		for _, addr := range []string{c.XDSListen, c.AdminListen} {
			if !c.MTLS() && !strings.HasPrefix(addr, "unix:") && !Loopback(addr) {
				t.Errorf("plaintext on %q", addr)
			}
		}
	})
}

// The file, the environment and the flag each replace what came before.
func TestExpectedNodesComeFromFileEnvironmentAndFlag(t *testing.T) {
	const file = "expected_nodes: [edge-1, edge-2]\n"
	env := map[string]string{"LOCKSTEP_EXPECTED_NODES": "edge-3,edge-4"}
	for _, tc := range []struct {
		env  map[string]string
		args []string
		want string
	}{
		{nil, nil, "edge-1 edge-2"},
		{env, nil, "edge-3 edge-4"},
		{env, []string{"--expected-nodes", "edge-5,edge-6"}, "edge-5 edge-6"},
	} {
		c, err := load(t, file, tc.env, tc.args...)
		if got := strings.Join(c.ExpectedNodes, " "); err != nil || got != tc.want {
			t.Errorf("environment %v, flags %v: %q, %v; want %q", tc.env, tc.args, got, err, tc.want)
		}
	}
}
