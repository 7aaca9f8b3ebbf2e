package reload_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/lockstep-tls/lockstep/cmd/internal/reload"
	"github.com/lockstep-tls/lockstep/cmd/internal/settings"
	"github.com/lockstep-tls/lockstep/cmd/internal/strictyaml"
)

// config has one setting that is live and one that is not.
type config struct {
	Limit  int               `yaml:"limit"`
	Store  string            `yaml:"store"`
	Scopes map[string]string `yaml:"scopes"`
}

// program is one that runs with a configuration.
type program struct {
	t     *testing.T
	file  string
	limit int
	fail  error
	log   bytes.Buffer
	*reload.Reloader[config]
}

func start(t *testing.T, text string) *program {
	p := &program{t: t, file: filepath.Join(t.TempDir(), "p.yaml")}
	p.write(text)
	load := func() (c config, err error) {
		b, err := os.ReadFile(p.file)
		if err != nil {
			return c, err
		}
		if faults := strictyaml.Decode(b, &c); len(faults) > 0 {
			return c, fmt.Errorf("%s:%d: %w", p.file, faults[0].Line, faults[0])
		}
		return c, nil
	}
	now, err := load()
	if err != nil {
		t.Fatal(err)
	}
	p.limit = now.Limit
	p.Reloader = reload.New(reload.Config[config]{
		Program: "p", File: p.file, Load: load,
		Settings: func(c config) map[string]string { return settings.Flatten(c).Texts() },
		Live:     func(now, next config) config { now.Limit = next.Limit; return now },
		Apply: func(now, next config) error {
			if p.fail == nil {
				p.limit = next.Limit
			}
			return p.fail
		},
		Log: slog.New(slog.NewTextHandler(&p.log, nil)),
	}, now)
	return p
}

func (p *program) write(text string) {
	p.t.Helper()
	if err := os.WriteFile(p.file, []byte(text), 0o600); err != nil {
		p.t.Fatal(err)
	}
}

// shows compares what is wrong with what must be in it, in order.
func (p *program) shows(want ...string) {
	p.t.Helper()
	got := p.Problems()
	if len(got) != len(want) {
		p.t.Fatalf("%q, want %q", got, want)
	}
	for i, w := range want {
		if !strings.Contains(got[i].Code+": "+got[i].Text, w) {
			p.t.Fatalf("%q, want %q", got, want)
		}
	}
}

func (p *program) reload(limit int, logged ...string) {
	p.t.Helper()
	p.log.Reset()
	p.Reload()
	if p.limit != limit || p.Now().Limit != limit {
		p.t.Fatalf("the limit is %d, and said to be %d; want %d", p.limit, p.Now().Limit, limit)
	}
	for _, want := range logged {
		if !strings.Contains(p.log.String(), want) {
			p.t.Fatalf("no %q in %s", want, p.log.String())
		}
	}
}

func TestWhatCanChangeDoesAndTheRestIsNamed(t *testing.T) {
	p := start(t, "limit: 1\nstore: nats://me:secret@a\n")
	p.shows()
	p.write("limit: 2\nstore: nats://me:secret@b\n")
	p.shows("config-not-reloaded: "+p.file+
		" differs from what is in force, and was not reloaded: limit (in force 1, in the file 2)",
		"only a restart of p takes it over: store (in force nats://me:xxxxx@a, in the file nats://me:xxxxx@b)")
	p.reload(2, "changed=1", "key=limit before=1 now=2",
		"key=store in_force=nats://me:xxxxx@a in_file=nats://me:xxxxx@b")
	p.shows("only a restart of p")
	p.write("limit: 2\nstore: nats://me:secret@a\n")
	p.shows() // back again
	p.write("limit: 2\nstore: nats://me:secret@a\nscopes: {a: x, b: y}\n")
	p.shows("scopes (in force nothing, in the file what is set there)")
	if strings.Contains(p.log.String(), "secret") {
		t.Error(p.log.String())
	}
}

func TestAFileThatCannotBeUsedChangesNothing(t *testing.T) {
	p := start(t, "limit: 1\n")
	for _, bad := range []string{"limit: 3\nlimt: 2\n", "limit: [\n"} {
		p.write(bad)
		p.shows("cannot be used, what was read before stays in force: " + p.file + ":")
		p.reload(1, "level=ERROR", p.file+":")
	}
	if err := os.Remove(p.file); err != nil {
		t.Fatal(err)
	}
	p.shows("no such file")
	p.reload(1, "level=ERROR", "no such file")
	p.write("limit: 4\n")
	p.fail = errors.New("the template is bad")
	p.reload(1, "the template is bad")
	p.shows("the last reload of the configuration was refused", "limit (in force 1, in the file 4)")
	p.fail = nil
	p.reload(4)
	p.shows()
}

func TestEachSignalIsOneReload(t *testing.T) {
	p := start(t, "limit: 1\n")
	hup, done := make(chan os.Signal), make(chan error)
	ctx, stop := context.WithCancel(t.Context())
	go func() { done <- p.Run(ctx, hup) }()
	for i := range 3 {
		p.write(fmt.Sprintf("limit: %d\n", i+5))
		hup <- syscall.SIGHUP
		for until := time.Now().Add(10 * time.Second); p.Now().Limit != i+5; time.Sleep(time.Millisecond) {
			if time.Now().After(until) {
				t.Fatalf("the limit is %d", p.Now().Limit)
			}
		}
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
	var none *reload.Reloader[config]
	if none.Problems() != nil || none.Run(t.Context(), nil) != nil {
		t.Error("without a configuration there are problems")
	}
}

func TestWithoutAFileNothingIsReadAndThatIsSaid(t *testing.T) {
	var log bytes.Buffer
	r := reload.New(reload.Config[config]{Log: slog.New(slog.NewTextHandler(&log, nil))}, config{Limit: 1})
	r.Reload()
	if !strings.Contains(log.String(), "there is no configuration file") || r.Problems() != nil || r.Now().Limit != 1 {
		t.Error(log.String(), r.Problems())
	}
}

func TestWhatIsGoneAsAWholeIsOneDifference(t *testing.T) {
	got := reload.Compare(
		map[string]string{"scopes.a.x": "1", "scopes.a.y": "1", "scopes.b.x": "1", "routes[0].host": "h", "n": "1"},
		map[string]string{"scopes.b.x": "2", "routes[0].host": "h", "routes[1].host": "i", "n": "1"})
	want := "[{scopes.a what is set there } {scopes.b.x 1 2} {routes[1]  what is set there}]"
	if fmt.Sprint(got) != want {
		t.Errorf("%v, want %s", got, want)
	}
}
