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
	script *script
	chains []double.Chain
	addr   string
	*fleet.Process
	streams [2]*wire
}

//go:embed testdata/envoy.yaml.tmpl
var bootstrapText string

var bootstrap = template.Must(template.New("").Parse(bootstrapText))

// newReal starts an Envoy with chains in that order, and waits until it has asked for everything. Both end with the test.
func newReal(ctx context.Context, t *testing.T, concurrency int, chains []double.Chain) *real {
	t.Helper()
	r := &real{t: t, script: newScript(t), chains: chains}
	admin, err := fleet.Port()
	if err == nil {
		r.addr, err = fleet.Addr()
	}
	if err != nil {
		t.Fatal(err)
	}
	path, err := fleet.EnvoyPath()
	if err != nil {
		t.Fatal(err)
	}
	f := fleet.ForTest(t)
	file := filepath.Join(f.Dir(), "envoy.yaml")
	write(t, file, map[string]any{"Chains": chains, "Admin": admin, "Listen": port(r.addr), "XDS": port(r.script.addr)})
	if r.Process, err = f.Start(fleet.Command{Name: "envoy", Path: path, Args: []string{
		"-c", file, "--concurrency", strconv.Itoa(concurrency), "--use-dynamic-base-id", "--disable-hot-restart", "--log-level", "error",
	}}); err != nil {
		t.Fatal(err)
	}
	r.connected(ctx, double.New(double.Config{Chains: chains}))
	return r
}

// connected waits until both streams have asked for what the model asks for.
func (r *real) connected(ctx context.Context, model *double.Envoy) {
	r.t.Helper()
	for _, on := range []double.Stream{double.ADS, double.SDS} {
		var err error
		if r.streams[on], err = r.script.open(ctx, on, model.Names(on)); err != nil {
			r.t.Fatalf("stream %d: %v", on, err)
		}
	}
}

// deliver sends a response and returns the words of the answer.
func (r *real) deliver(ctx context.Context, on double.Stream, resources []double.Resource, removed []string) string {
	r.t.Helper()
	m := &response{TypeUrl: secretType, RemovedResources: removed}
	for _, s := range resources {
		m.Resources = append(m.Resources, &resource{Name: s.Name, Version: s.Version, Resource: &anypb.Any{TypeUrl: secretType, Value: s.Secret}})
	}
	words, err := r.streams[on].ask(ctx, m)
	if err != nil {
		r.t.Fatalf("a response on stream %d: %v", on, err)
	}
	return words
}

// cut ends a stream, waits until it is open again, and returns the claims.
func (r *real) cut(ctx context.Context, on double.Stream, names []string) map[string]string {
	r.t.Helper()
	r.streams[on].end()
	var err error
	if r.streams[on], err = r.script.open(ctx, on, names); err != nil {
		r.t.Fatalf("after a cut of stream %d: %v", on, err)
	}
	return r.streams[on].claims
}

func write(t testing.TB, file string, values map[string]any) {
	t.Helper()
	var b bytes.Buffer
	err := bootstrap.Execute(&b, values)
	if err == nil {
		err = os.WriteFile(file, b.Bytes(), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
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
