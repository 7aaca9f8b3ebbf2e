package edge

import (
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"

	"github.com/lockstep-tls/lockstep/cmd/internal/bootstrap"
)

// The file says what the defaults are, and is read.
func TestTheExampleIsTheDefault(t *testing.T) {
	c := Default()
	f := pflag.NewFlagSet("edge", pflag.ContinueOnError)
	c.Flags(f)
	if err := c.Load("../../../deploy/edge/edge.yaml", f, func(string) string { return "" }); err != nil {
		t.Fatal(err)
	}
	if d := Default(); c.Limits != d.Limits || c.Timeouts != d.Timeouts ||
		c.TicketLifetime != d.TicketLifetime || c.AdminListen != d.AdminListen {
		t.Errorf("%+v %+v is not %+v %+v", c.Limits, c.Timeouts, d.Limits, d.Timeouts)
	}
	if len(c.Listeners) != 1 || c.Listeners[0].Scope != "default" {
		t.Errorf("%+v", c.Listeners)
	}
}

// What lockstep bootstrap edge writes is read, and means what was asked for.
func TestTheBootstrapIsRead(t *testing.T) {
	for _, o := range []bootstrap.Options{
		{Node: "1e3", XDS: []string{"127.0.0.1:18000"}},
		{Node: "on", XDS: []string{"a.example:18000", "b.example:18000"}, Scope: "blue", TicketLifetime: time.Hour,
			TLS: &bootstrap.TLS{CA: "ca.pem", Cert: "c.pem", Key: "k.pem", ServerName: "lockstepd.example"}},
	} {
		o.Admin, o.Listen, o.Upstream = "127.0.0.1:9901", "0.0.0.0:8443", "127.0.0.1:8080"
		b, err := bootstrap.Edge(o, "data")
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(t.TempDir(), "edge.yaml")
		if err := os.WriteFile(file, b, 0o600); err != nil {
			t.Fatal(err)
		}
		c := Default()
		f := pflag.NewFlagSet("edge", pflag.ContinueOnError)
		c.Flags(f)
		if err := c.Load(file, f, func(string) string { return "" }); err != nil {
			t.Fatalf("%v\n%s", err, b)
		}
		if c.Node != o.Node || c.XDS != strings.Join(o.XDS, ",") || c.DataDir != "data" ||
			c.Listeners[0].Address != o.Listen || c.Routes[0].Upstreams[0] != "http://"+o.Upstream {
			t.Errorf("%+v", c)
		}
		if o.TLS != nil && (c.XDSCA != "ca.pem" || c.XDSName != "lockstepd.example" ||
			c.Listeners[0].Scope != "blue" || c.TicketLifetime != time.Hour) {
			t.Errorf("%+v", c)
		}
	}
}

func FuzzParse(f *testing.F) {
	const least = "node: a\nlisteners: [{address: \"127.0.0.1:1\"}]\nroutes: [{upstreams: [\"http://127.0.0.1:1\"]}]\n"
	for _, seed := range []string{
		"", least, least + "limits: {names: 10}\ntimeouts: {drain: 0s}\n",
		least + "preload: [shop.example]\ntrusted_proxies: [10.0.0.0/8]\n",
		least + "xds: \"a:1,[::1]:2,unix:/x\"\nkek: env:K\ndata_dir: d\n",
		"routes: [{host: \"*.example\", path: /a/, upstreams: [\"h2c://a:1\"]}]\n", "a: &a [*a]\n", "---\n---\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		c := Default()
		if c.Parse(b) != nil || c.Check() != nil {
			return
		}
		// What is let through can be started.
		if c.Node == "" || len(c.Listeners) == 0 || len(c.Routes) == 0 || c.Timeouts.Drain <= 0 || c.Limits.Names <= 0 {
			t.Errorf("%+v", c)
		}
		for _, l := range c.Listeners {
			if _, _, err := net.SplitHostPort(l.Address); err != nil || l.Scope == "" || l.MinVersion == "" {
				t.Errorf("%+v: %v", l, err)
			}
		}
		for _, r := range c.Routes {
			for _, u := range r.Upstreams {
				if at, err := url.Parse(u); err != nil || at.Host == "" ||
					!strings.HasPrefix(r.Path, "/") || r.Host == "" {
					t.Errorf("%+v: %v", r, err)
				}
			}
		}
	})
}
