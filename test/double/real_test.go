package double_test

import (
	"bytes"
	"context"
	_ "embed"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"text/template"
	"time"

	"google.golang.org/protobuf/types/known/anypb"

	"github.com/lockstep-tls/lockstep/test/double"
	"github.com/lockstep-tls/lockstep/test/fleet"
)

// real is one Envoy under a script.
type real struct {
	t      testing.TB
	fleet  *fleet.Fleet
	script *script
	chains []double.Chain
	addr   string
	admin  int
	*fleet.Process
	ads   *wire
	rings map[string]*wire // by the ring's name
}

//go:embed testdata/envoy.yaml.tmpl
var bootstrapText string

var bootstrap = template.Must(template.New("").Parse(bootstrapText))

// newReal starts an Envoy with chains in that order, and waits until it has asked for everything.
// Both end with the test.
func newReal(ctx context.Context, t *testing.T, concurrency int, chains []double.Chain) *real {
	t.Helper()
	r := prepare(t, chains)
	r.start(r.bootstrap(r.admin, chains), concurrency)
	r.connected(ctx, double.New(double.Config{Chains: chains}))
	return r
}

// prepare starts a script and finds addresses for an Envoy.
func prepare(t *testing.T, chains []double.Chain) *real {
	t.Helper()
	r := &real{t: t, fleet: fleet.ForTest(t), script: newScript(t), chains: chains, rings: map[string]*wire{}}
	var err error
	if r.admin, err = fleet.Port(); err == nil {
		r.addr, err = fleet.Addr()
	}
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// start starts Envoy with a configuration.
func (r *real) start(config []byte, concurrency int) {
	r.t.Helper()
	path, err := fleet.EnvoyPath()
	if err != nil {
		r.t.Fatal(err)
	}
	file := filepath.Join(r.fleet.Dir(), "envoy.yaml")
	if err := os.WriteFile(file, config, 0o600); err != nil {
		r.t.Fatal(err)
	}
	if r.Process, err = r.fleet.Start(fleet.Command{Name: "envoy", Path: path, Args: []string{
		"-c", file, "--concurrency", strconv.Itoa(concurrency), "--use-dynamic-base-id",
		"--disable-hot-restart", "--log-level", "error",
	}}); err != nil {
		r.t.Fatal(err)
	}
}

// connected waits until all streams have asked for what the model asks for.
func (r *real) connected(ctx context.Context, model *double.Envoy) {
	r.t.Helper()
	r.open(ctx, double.ADS, model.Names(double.ADS))
	for _, ring := range model.Names(double.SDS) {
		r.open(ctx, double.SDS, []string{ring})
	}
}

// open waits until a stream has asked for names.
func (r *real) open(ctx context.Context, on double.Stream, names []string) *wire {
	r.t.Helper()
	w, err := r.script.open(ctx, on, names)
	if err != nil {
		r.t.Fatalf("no stream for %v: %v", names, err)
	}
	if on == double.ADS {
		r.ads = w
	} else {
		r.rings[names[0]] = w
	}
	return w
}

// deliver sends a response and returns the words of the answer.
func (r *real) deliver(ctx context.Context, on double.Stream, resources []double.Resource, removed []string) string {
	r.t.Helper()
	m := &response{TypeUrl: secretType, RemovedResources: removed}
	names := removed
	for _, s := range resources {
		m.Resources = append(m.Resources,
			&resource{Name: s.Name, Version: s.Version, Resource: &anypb.Any{TypeUrl: secretType, Value: s.Secret}})
		names = append(names, s.Name)
	}
	w := r.ads
	if on == double.SDS {
		w = r.rings[names[0]]
	}
	words, err := w.ask(ctx, m)
	if err != nil {
		r.t.Fatalf("a response with %v: %v", names, err)
	}
	return words
}

// cut ends the stream that asked for names, waits until it is open again, and returns the claims.
func (r *real) cut(ctx context.Context, on double.Stream, names []string) map[string]string {
	r.t.Helper()
	if on == double.ADS {
		r.ads.end()
	} else {
		r.rings[names[0]].end()
	}
	return r.open(ctx, on, names).claims
}

// host is the server name of a chain.
func host(chain int) string { return fmt.Sprintf("chain-%d.example", chain) }

// bootstrap renders a configuration with one static listener.
func (r *real) bootstrap(admin int, chains []double.Chain) []byte {
	r.t.Helper()
	type named struct {
		Host string
		double.Chain
	}
	values := struct {
		Chains      []named
		Admin       int
		Listen, XDS string
	}{Admin: admin, Listen: port(r.addr), XDS: port(r.script.addr)}
	for i, c := range chains {
		values.Chains = append(values.Chains, named{host(i), c})
	}
	var b bytes.Buffer
	if err := bootstrap.Execute(&b, values); err != nil {
		r.t.Fatal(err)
	}
	return b.Bytes()
}

func port(addr string) string {
	_, p, _ := net.SplitHostPort(addr)
	return p
}

// within bounds a test.
func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeoutCause(context.Background(), d, fmt.Errorf("the test took %s", d))
	t.Cleanup(cancel)
	return ctx
}
