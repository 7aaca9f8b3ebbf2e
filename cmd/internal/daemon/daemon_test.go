package daemon

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"

	"github.com/lockstep-tls/lockstep/cmd/internal/api"
	"github.com/lockstep-tls/lockstep/cmd/internal/config"
	"github.com/lockstep-tls/lockstep/store/bolt"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// running is a daemon that runs until the test ends.
type running struct {
	*Daemon
	client *api.Client
	stop   func() error // as SIGTERM does
}

func start(t *testing.T, change func(*config.Config)) *running {
	t.Helper()
	return opened(t, change).run(t)
}

// unstarted is a daemon that was opened, and does not run yet.
type unstarted struct{ *Daemon }

func opened(t *testing.T, change func(*config.Config)) unstarted {
	t.Helper()
	c := config.Default()
	c.DataDir, c.XDSListen, c.AdminListen = filepath.Join(t.TempDir(), "data"), "127.0.0.1:0", "127.0.0.1:0"
	if change != nil {
		change(&c)
	}
	d, err := New(c, slog.New(slog.NewTextHandler(io.Discard, nil)))
	if err != nil {
		t.Fatal(err)
	}
	return unstarted{d}
}

func (u unstarted) run(t *testing.T) *running {
	t.Helper()
	d := u.Daemon
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- d.Run(ctx) }()
	stopped := false
	r := &running{Daemon: d, stop: func() error {
		if stopped {
			return nil
		}
		stopped = true
		cancel()
		return <-done
	}}
	t.Cleanup(func() {
		if err := r.stop(); err != nil {
			t.Error(err)
		}
	})
	r.client = &api.Client{
		Base: "http://" + d.adminListener.Addr().String(), Token: d.data.Token,
		HTTP: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}},
	}
	for deadline := time.Now().Add(10 * time.Second); d.ready() != nil; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal(d.ready())
		}
	}
	return r
}

func TestTheRingIsThereAtOnceAndSurvivesARestart(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	in := func(c *config.Config) { c.DataDir = dir }
	r := start(t, in)
	before, err := r.client.Status(t.Context())
	if err != nil || len(before.Scopes) != 1 || before.Scopes[0].Phase != "steady" || len(before.Scopes[0].Keys) != 1 {
		t.Fatalf("%+v %v", before, err)
	}
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	after, err := start(t, in).client.Status(t.Context())
	if err != nil || after.Scopes[0].Version != before.Scopes[0].Version || after.Replica != before.Replica {
		t.Fatalf("%+v %v", after, err)
	}
}

func TestASecondDaemonOnTheDataDirectoryIsRefused(t *testing.T) {
	r := start(t, nil)
	c := r.cfg
	_, err := New(c, r.log)
	if err == nil || !strings.Contains(err.Error(), c.DataDir) ||
		!strings.Contains(err.Error(), bolt.ErrInUse.Error()) {
		t.Fatalf("%v", err)
	}
}

func TestALostSealingKeyIsNotReplaced(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	r := start(t, func(c *config.Config) { c.DataDir = dir })
	cfg := r.cfg
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, "sealing.key")); err != nil {
		t.Fatal(err)
	}
	if _, err := New(cfg, r.log); err == nil || !strings.Contains(err.Error(), "sealing.key") {
		t.Fatalf("%v", err)
	}
}

func TestAllButProbesAndMetricsNeedsTheTokenAndAHostOfOurs(t *testing.T) {
	r := start(t, nil)
	do := func(method, path, token, host, origin string) int {
		req, err := http.NewRequestWithContext(t.Context(), method, r.client.Base+path, strings.NewReader("{}"))
		if err != nil {
			t.Fatal(err)
		}
		if token != "" {
			req.Header.Set("Authorization", "Bearer "+token)
		}
		if host != "" {
			req.Host = host
		}
		if origin != "" {
			req.Header.Set("Origin", origin)
		}
		resp, err := r.client.HTTP.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		return resp.StatusCode
	}
	const rotate = "/v1/scopes/default/rotate"
	for _, c := range []struct {
		method, path, token, host, origin string
		want                              int
	}{
		{"POST", rotate, r.data.Token, "", "", 200},
		{"POST", rotate, "", "", "", 403},
		{"POST", rotate, r.data.Token + "x", "", "", 403},
		{"POST", rotate, r.data.Token, "evil.example", "", 403},
		{"POST", rotate, r.data.Token, "", "http://evil.example", 403},
		{"DELETE", "/v1/certs/a.example", "", "", "", 403},
		{"PUT", "/v1/certs/a.example", "", "", "", 403},
		{"POST", "/v1/backup", "", "", "", 403},
		{"POST", "/v1/backup", r.data.Token, "", "http://evil.example", 403},
		{"POST", "/v1/backup", r.data.Token, "", "", 400},
		{"GET", "/v1/backup", r.data.Token, "", "", 405},
		{"POST", "/v1/restore", "", "", "", 403},
		{"POST", "/v1/restore", r.data.Token, "", "", 409},
		{"POST", "/v1/store/records", "", "", "", 403},
		{"POST", "/v1/store/freeze", "", "", "", 403},
		{"POST", "/v1/kek/rotate", "", "", "", 403},
		{"GET", "/v1/status", r.data.Token, "", "", 200},
		{"GET", "/v1/status", "", "", "", 403},
		{"GET", "/v1/status", r.data.Token, "evil.example:80", "", 403},
		{"GET", "/v1/pulse", "", "", "", 403},
		{"GET", "/debug/pprof/heap", "", "", "", 403},
		{"GET", "/debug/pprof/cmdline", r.data.Token, "", "", 200},
		{"GET", "/metrics", "", "", "", 200},
		{"GET", "/metrics", "", "", "http://evil.example", 403},
		{"GET", "/healthz", "", "localhost", "", 200},
		{"POST", "/v1/scopes/nope/rotate", r.data.Token, "", "", 404},
		{"GET", "/v1/scopes/default/rotations/99", r.data.Token, "", "", 404},
		{"DELETE", "/v1/certs/a.example", r.data.Token, "", "", 404},
	} {
		if got := do(c.method, c.path, c.token, c.host, c.origin); got != c.want {
			t.Errorf("%s %s token %t host %q origin %q: %d, want %d",
				c.method, c.path, c.token != "", c.host, c.origin, got, c.want)
		}
	}
}

func TestWatchTellsEachStepAndNothingSecret(t *testing.T) {
	r := start(t, nil)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	lines := make(chan api.Line, 16)
	go func() {
		defer close(lines)
		r.client.Watch(ctx, func(l api.Line) error { lines <- l; return nil })
	}()
	deadline := time.Now().Add(5 * time.Second)
	for r.hub.Watchers() == 0 && time.Now().Before(deadline) {
		time.Sleep(time.Millisecond)
	}
	started, err := r.client.Rotate(ctx, "default", api.RotateRequest{By: "test", Why: "because"})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for l := range lines {
		if l.Rotation < started.Rotation {
			continue // the first ring's line may come after the watcher
		}
		got = append(got, l.What)
		if l.Rotation != started.Rotation {
			t.Errorf("%+v is of another rotation than %d", l, started.Rotation)
		}
		if l.What == "done" {
			cancel()
		}
	}
	if strings.Join(got, " ") != "distributing promoting done" {
		t.Fatal(got)
	}
	st, err := r.rolls.Status("default")
	if err != nil {
		t.Fatal(err)
	}
	b, _ := json.Marshal(st.History)
	for _, k := range r.rolls.Current("default").Keys {
		if strings.Contains(string(b), string(k[:])) {
			t.Fatal("a key stands in the history")
		}
	}
}

func TestHealthReflectionAndMetrics(t *testing.T) {
	r := start(t, nil)
	dial := func(addr string) *grpc.ClientConn {
		conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		return conn
	}
	h, err := healthv1.NewHealthClient(dial(r.xdsListener.Addr().String())).Check(t.Context(),
		&healthv1.HealthCheckRequest{}, grpc.WaitForReady(true))
	if err != nil || h.Status != healthv1.HealthCheckResponse_SERVING {
		t.Fatalf("%v %v", h, err)
	}
	ask, err := reflectionv1.NewServerReflectionClient(dial(r.adminListener.Addr().String())).
		ServerReflectionInfo(metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+r.data.Token))
	if err != nil {
		t.Fatal(err)
	}
	if err := ask.Send(&reflectionv1.ServerReflectionRequest{
		MessageRequest: &reflectionv1.ServerReflectionRequest_ListServices{},
	}); err != nil {
		t.Fatal(err)
	}
	answer, err := ask.Recv()
	if err != nil || !strings.Contains(answer.String(), "SecretDiscoveryService") {
		t.Fatalf("%v %v", answer, err)
	}
	ask.CloseSend()
	metrics := r.metrics(t)
	for _, want := range []string{`lockstep_scope_phase_seconds{phase="steady",scope="default"}`, "lockstep_store_up 1",
		"lockstep_events_up 1", "lockstep_xds_streams 0"} {
		if !strings.Contains(metrics, want) {
			t.Errorf("no %s in /metrics", want)
		}
	}
}

func TestAnAddressThatIsTakenIsNamed(t *testing.T) {
	r := start(t, nil)
	c := r.cfg
	c.DataDir = filepath.Join(t.TempDir(), "other")
	c.XDSListen = r.xdsListener.Addr().String()
	if _, err := New(c, r.log); err == nil || !strings.Contains(err.Error(), "xds_listen") {
		t.Fatalf("%v", err)
	}
}
