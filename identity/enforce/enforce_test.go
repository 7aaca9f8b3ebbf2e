package enforce

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lockstep-tls/lockstep/audit"
	"github.com/lockstep-tls/lockstep/audit/storesink"
	"github.com/lockstep-tls/lockstep/identity"
	"github.com/lockstep-tls/lockstep/store"
	"github.com/lockstep-tls/lockstep/store/memory"
)

// chain is a real audit log, which can be frozen.
type chain struct {
	log    *audit.Log
	frozen atomic.Bool
}

func (c *chain) Record(ctx context.Context, l Line) error {
	if c.frozen.Load() {
		return store.ErrFrozen
	}
	_, err := c.log.Append(ctx,
		audit.Entry{Actor: "lockstepd", What: "policy", Name: l.File, Key: l.Digest, Why: l.Why})
	return err
}

func (c *chain) Newest(ctx context.Context, n int) (lines []Line, seen int, whole bool, err error) {
	all, whole, err := c.log.Newest(ctx, n)
	for _, l := range all {
		lines = append(lines, Line{File: l.Name, Digest: l.Key, Why: l.Why})
	}
	return lines, len(all), whole, err
}

func (c *chain) why(t *testing.T) (all []string) {
	t.Helper()
	lines, _, _, err := c.Newest(t.Context(), 100)
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range lines {
		all = append(all, l.Why)
	}
	return all
}

// lab is a policy file in force, with all that it needs.
type lab struct {
	t       *testing.T
	file    string
	history string
	chain   *chain
}

func newLab(t *testing.T) *lab {
	t.Helper()
	log, err := audit.New(audit.Config{
		Records: storesink.New(memory.New()), Replica: "r1", Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { log.Close() })
	dir := t.TempDir()
	l := &lab{
		t: t, file: filepath.Join(dir, "policy.yaml"),
		history: filepath.Join(dir, "policy.mark"), chain: &chain{log: log},
	}
	l.write("a")
	return l
}

// write puts a policy into the file that grants one name.
func (l *lab) write(name string) {
	l.t.Helper()
	text := `rules: [{identity: "edge", names: [` + name + `.example]}]`
	if name == "" {
		text = "rules: nonsense"
	}
	if err := errors.Join(os.WriteFile(l.file+".new", []byte(text), 0o600),
		os.Rename(l.file+".new", l.file)); err != nil {
		l.t.Fatal(err)
	}
}

// start runs an enforcer until stop is called. Each policy that is applied comes out of applied.
func (l *lab) start(file string) (e *Enforcer, applied chan *identity.Policy, stop func()) {
	l.t.Helper()
	applied = make(chan *identity.Policy, 16)
	e, err := New(Config{
		File: file, Refresh: 10 * time.Millisecond, HistoryFile: l.history,
		Audit: l.chain, Log: slog.New(slog.DiscardHandler),
		Frozen: func(err error) bool { return errors.Is(err, store.ErrFrozen) },
		Apply:  func(p *identity.Policy) { applied <- p },
	})
	if err != nil {
		l.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(l.t.Context())
	done := make(chan error, 1)
	go func() { done <- e.Run(ctx) }()
	return e, applied, func() {
		cancel()
		if err := <-done; err != nil {
			l.t.Error(err)
		}
	}
}

func (l *lab) settles(e *Enforcer) {
	l.t.Helper()
	select {
	case <-e.Settled():
	case <-time.After(10 * time.Second):
		l.t.Fatal(e.Unsettled())
	}
}

func (l *lab) until(what string, is func() bool) {
	l.t.Helper()
	for end := time.Now().Add(10 * time.Second); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			l.t.Fatalf("it did not come to this: %s", what)
		}
	}
}

func TestAPolicyIsWrittenDownBeforeItCounts(t *testing.T) {
	l := newLab(t)
	e, applied, stop := l.start(l.file)
	defer stop()
	l.settles(e)
	l.chain.frozen.Store(true)
	l.write("b")
	l.until("the change is refused", func() bool { return errors.Is(e.Fault(), store.ErrFrozen) })
	if len(applied) != 0 || len(l.chain.why(t)) != 1 {
		t.Fatalf("a policy counts without a line: %q", l.chain.why(t))
	}
	l.chain.frozen.Store(false)
	select {
	case <-applied:
	case <-time.After(10 * time.Second):
		t.Fatal("it was not tried again")
	}
	if why := l.chain.why(t); len(why) != 2 || e.Fault() != nil {
		t.Errorf("%q %v", why, e.Fault())
	}
	l.write("")
	l.until("a bad file is named", func() bool { return len(e.Problems()) == 1 })
	if _, refused := e.Counts(); refused != 2 || len(applied) != 0 {
		t.Errorf("%d were refused", refused)
	}
}

func TestAPolicyThatIsPutBackIsNamedInItsLine(t *testing.T) {
	l := newLab(t)
	for i, name := range []string{"a", "b", "a"} {
		l.write(name)
		e, _, stop := l.start(l.file)
		l.settles(e)
		l.until("the line is written", func() bool { return len(l.chain.why(t)) == i+1 })
		stop()
		why := l.chain.why(t)[i]
		if back := i == 2; strings.Contains(why, "It was put back") != back ||
			errors.Is(e.PutBack(), ErrPutBack) != back {
			t.Errorf("start %d: %q, %q", i, why, e.PutBack())
		}
	}
	e, _, stop := l.start("") // without a policy, which is another state again
	l.settles(e)
	l.until("the line is written", func() bool { return len(l.chain.why(t)) == 4 })
	stop()
	if why := l.chain.why(t)[3]; !strings.Contains(why, "no policy") || e.Policy() != nil {
		t.Errorf("%q %v", why, e.Policy())
	}
}

func TestAFrozenLogLetsOnlyAnUnchangedPolicyCount(t *testing.T) {
	l := newLab(t)
	e, _, stop := l.start(l.file)
	l.settles(e)
	l.until("the line is written", func() bool { return len(l.chain.why(t)) == 1 })
	stop()
	l.chain.frozen.Store(true)
	e, _, stop = l.start(l.file)
	l.settles(e)
	stop()
	l.write("b")
	e, _, stop = l.start(l.file)
	l.until("the changed one waits", func() bool { return errors.Is(e.Unsettled(), store.ErrFrozen) })
	stop()
}
