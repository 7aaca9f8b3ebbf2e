package lds

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"go.uber.org/goleak"

	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/xds"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var options = Options{Scope: "blue", TicketLifetime: 90 * time.Minute, ClientCerts: "none"}

// example is the template that the project ships.
func example(t testing.TB) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("..", "deploy", "envoy", "listener.yaml"))
	check(t, err)
	return string(b)
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// lab is a table with its template in a file.
type lab struct {
	t    *testing.T
	file string
	*Table
}

func newLab(t *testing.T, p Policy) *lab {
	t.Helper()
	l := &lab{t: t, file: filepath.Join(t.TempDir(), "listener.yaml")}
	l.write(example(t))
	var err error
	l.Table, err = NewTable(Config{File: l.file, Refresh: time.Minute, Options: options, Policy: p,
		Log: slog.New(slog.DiscardHandler)})
	check(t, err)
	return l
}

func (l *lab) write(text string) { check(l.t, os.WriteFile(l.file, []byte(text), 0o600)) }

// sent is what a node is sent; nil: nothing yet.
func (l *lab) sent(identity string) *xds.Resource {
	l.t.Helper()
	r, state := l.Lookup(xds.Node{ID: "n", Identity: identity, Service: xds.ADS}, "tls")
	if (state == xds.Present) != (r != nil) || state == xds.Absent {
		l.t.Fatalf("state %v with %v", state, r)
	}
	return r
}

func listenerOf(t testing.TB, r *xds.Resource) *listenerv3.Listener {
	t.Helper()
	out := new(listenerv3.Listener)
	check(t, r.Body.UnmarshalTo(out))
	check(t, out.ValidateAll())
	return out
}

// chains are the encoded chains of a listener by name, and the names in order.
func chains(t testing.TB, r *xds.Resource) (bytes map[string]string, order string) {
	t.Helper()
	bytes = map[string]string{}
	var names []string
	for _, c := range listenerOf(t, r).GetFilterChains() {
		b, err := deterministic.Marshal(c)
		check(t, err)
		bytes[c.GetName()] = string(b)
		names = append(names, c.GetName())
	}
	return bytes, strings.Join(names, " ")
}

func downstream(t testing.TB, c *listenerv3.FilterChain) *tlsv3.DownstreamTlsContext {
	t.Helper()
	d := new(tlsv3.DownstreamTlsContext)
	check(t, c.GetTransportSocket().GetTypedConfig().UnmarshalTo(d))
	check(t, d.ValidateAll())
	return d
}

func names(s string) (out []keysource.Name) {
	for _, n := range strings.Fields(s) {
		out = append(out, keysource.Name(n))
	}
	return out
}

// grants is a policy: identity to the names that it may have; scopes has the identities that may
// have the ring.
type grants struct {
	names  map[string]string
	scopes string
}

func (g grants) AllowsScope(identity, scope string) bool {
	return scope == options.Scope && strings.Contains(g.scopes, identity)
}

func (g grants) AllowsName(identity string, n keysource.Name) bool {
	return strings.Contains(" "+g.names[identity]+" ", " "+string(n)+" ")
}
