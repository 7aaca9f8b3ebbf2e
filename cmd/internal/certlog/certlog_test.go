package certlog

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lockstep-tls/lockstep/audit"
	"github.com/lockstep-tls/lockstep/cmd/internal/problems"
	"github.com/lockstep-tls/lockstep/cmd/internal/recorder"
	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/keysource/dir"
	"github.com/lockstep-tls/lockstep/test/fleet"
)

// lab is a directory that is watched, and an audit log that may be away.
type lab struct {
	t     *testing.T
	certs string
	file  string

	mu      sync.Mutex
	away    bool
	entries []audit.Entry
	items   []audit.Item
	told    []string
}

func newLab(t *testing.T) *lab {
	l := &lab{t: t, certs: t.TempDir(), file: filepath.Join(t.TempDir(), "certs.mark")}
	return l
}

func (l *lab) Append(_ context.Context, entries ...audit.Entry) (audit.Head, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.away {
		return audit.Head{}, errors.New("the sink is away")
	}
	l.entries = append(l.entries, entries...)
	return audit.Head{}, nil
}

func (l *lab) AppendMany(ctx context.Context, e audit.Entry, items []audit.Item) (audit.Head, error) {
	e.Times = len(items)
	h, err := l.Append(ctx, e)
	l.mu.Lock()
	defer l.mu.Unlock()
	if err == nil {
		l.items = append(l.items, items...)
	}
	return h, err
}

// run runs a log and the directory that it hears of, until stop.
func (l *lab) run() (log *Log, d *dir.Dir, stop func()) {
	l.t.Helper()
	log = New(Config{File: l.file, Audit: l, Log: slog.New(slog.DiscardHandler), Record: func(e recorder.Entry) {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.told = append(l.told, fmt.Sprintf("%s: %s", e.Kind, e.Text))
	}})
	d = dir.New(dir.Config{Dir: l.certs, Rescan: 100 * time.Millisecond, Noted: log.Note})
	ctx, cancel := context.WithCancel(l.t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { d.Run(ctx) })
	wg.Go(func() { log.Run(ctx) })
	return log, d, func() { cancel(); wg.Wait() }
}

func (l *lab) issue(ca *fleet.CA, names ...string) {
	l.t.Helper()
	p, err := ca.Issue(fleet.Leaf{Names: names})
	if err != nil {
		l.t.Fatal(err)
	}
	if err := fleet.WriteHost(l.certs, names[0], p); err != nil {
		l.t.Fatal(err)
	}
}

// eventually waits until what was told or audited holds all of the words.
func (l *lab) eventually(of func() string, words ...string) {
	l.t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for {
		l.mu.Lock()
		text := of()
		l.mu.Unlock()
		missing := ""
		for _, w := range words {
			if !strings.Contains(text, w) {
				missing = w
			}
		}
		if missing == "" {
			return
		}
		if time.Now().After(deadline) {
			l.t.Fatalf("%q is not in:\n%s", missing, text)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func (l *lab) toldAll() string { return strings.Join(l.told, "\n") }

func (l *lab) audited() string {
	var b strings.Builder
	for _, e := range l.entries {
		fmt.Fprintf(&b, "%s %s %s %s %d\n", e.What, e.Name, e.Key, e.Why, e.Times)
	}
	return b.String()
}

func ca(t *testing.T, name string) *fleet.CA {
	t.Helper()
	ca, err := fleet.NewCA(name)
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

func TestACertificateThatChangesInTheDirectoryIsToldAndAudited(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	one, two := ca(t, "CA 1"), ca(t, "CA 2")
	l.issue(one, "a.example")
	_, d, stop := l.run()
	l.eventually(l.toldAll, "cert-taken: the certificate of a.example was taken from the directory: version ", "CA 1")
	l.eventually(l.audited, "cert-taken a.example ")
	before, err := d.Certificate(t.Context(), "a.example")
	if err != nil {
		t.Fatal(err)
	}
	l.issue(two, "a.example")
	l.eventually(l.toldAll, ", before "+before.Version(), "CA 2", "its session tickets end: another issuer")
	l.eventually(l.audited, "from the directory, before "+before.Version())
	if err := os.WriteFile(filepath.Join(l.certs, "a.example", "tls.crt"), []byte("broken"), 0o600); err != nil {
		t.Fatal(err)
	}
	l.eventually(l.toldAll, "cert-refused: the certificate of a.example in the directory cannot be used")
	l.issue(one, "a.example")
	l.eventually(l.toldAll, "cert-taken: the certificate of a.example", "CA 1")
	stop()

	// A restart tells nothing anew, and tells what was changed meanwhile.
	l.told, l.entries = nil, nil
	l.issue(one, "b.example")
	if err := os.RemoveAll(filepath.Join(l.certs, "a.example")); err != nil {
		t.Fatal(err)
	}
	l.issue(one, "a.example")
	_, _, stop = l.run()
	defer stop()
	l.eventually(l.audited, "cert-taken b.example", "cert-taken a.example")
	l.mu.Lock()
	told := l.toldAll()
	l.mu.Unlock()
	if n := strings.Count(told, "\n"); n != 1 {
		t.Errorf("two have changed, and told was:\n%s", told)
	}
	if err := os.RemoveAll(filepath.Join(l.certs, "b.example")); err != nil {
		t.Fatal(err)
	}
	l.eventually(l.audited, "cert-left b.example")
	l.eventually(l.toldAll, "cert-removed: the certificate of b.example has left the directory")
}

// A refused certificate of a host that nobody had asked for has nothing that could stay. The event
// says what is true of each.
func TestTheEventOfARefusedCertificateSaysWhatIsServedOn(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	one := ca(t, "CA 1")
	l.issue(one, "asked.example")
	l.issue(one, "idle.example")
	_, d, stop := l.run()
	defer stop()
	l.eventually(l.toldAll, "asked.example was taken", "idle.example was taken")
	good, err := d.Certificate(t.Context(), "asked.example")
	if err != nil {
		t.Fatal(err)
	}
	for _, host := range []string{"asked.example", "idle.example"} {
		if err := os.WriteFile(filepath.Join(l.certs, host, "tls.crt"), []byte("junk"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	l.eventually(l.toldAll, "asked.example in the directory cannot be used",
		"idle.example in the directory cannot be used")
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, line := range l.told {
		stays := strings.Contains(line, "the last good one stays, version "+good.Version())
		none := strings.Contains(line, "no earlier one is in memory")
		switch {
		case !strings.HasPrefix(line, "cert-refused"):
		case strings.Contains(line, "asked.example") && (!stays || none),
			strings.Contains(line, "idle.example") && (stays || !none):
			t.Error(line)
		}
	}
	if c, err := d.Certificate(t.Context(), "asked.example"); err != nil || c.Version() != good.Version() {
		t.Errorf("asked.example is not served on: %v", err)
	}
	if _, err := d.Certificate(t.Context(), "idle.example"); err == nil {
		t.Error("idle.example is served, and the event says that none is in memory")
	}
}

// While no sink takes a line the certificate is served, status says so, and the line follows, also
// after a restart.
func TestTheLineFollowsOnceTheAuditLogIsBack(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	one := ca(t, "CA 1")
	l.issue(one, "a.example")
	l.away = true
	log, d, stop := l.run()
	l.eventually(func() string { return strings.Join(problems.Degraded(log.Problems()), "") },
		"1 certificates of the directory have changed", "the sink is away")
	if _, err := d.Certificate(t.Context(), keysource.Name("a.example")); err != nil {
		t.Errorf("it is not served: %v", err)
	}
	stop()
	l.away = false
	log, _, stop = l.run()
	defer stop()
	l.eventually(l.audited, "cert-taken a.example")
	l.eventually(func() string { return fmt.Sprint(len(log.Problems()), " problems") }, "0 problems")
}

// Many at once have one line, and the record beside it names each.
func TestManyAtOnceAreToldTogether(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	one := ca(t, "CA 1")
	for i := range severally + 5 {
		l.issue(one, fmt.Sprintf("host-%02d.example", i))
	}
	_, _, stop := l.run()
	t.Cleanup(stop)
	l.eventually(l.audited, "certs-taken   from the directory, for the first time 25")
	l.eventually(func() string { return fmt.Sprint(len(l.items), " items") }, "25 items")
	l.eventually(l.toldAll, "cert-taken: 25 certificates were found in the directory for the first time")
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.items) != severally+5 || l.items[0].Name != "host-00.example" || l.items[0].Key == "" {
		t.Errorf("%+v", l.items)
	}
}

// A directory that is emptied and filled again has its certificates not for the first time.
func TestADirectoryThatIsFilledAgainIsNotNew(t *testing.T) {
	l := newLab(t)
	log := New(Config{File: l.file, Audit: l, Log: slog.New(slog.DiscardHandler), Record: func(e recorder.Entry) {
		l.told = append(l.told, e.Text)
	}})
	for i, what := range []dir.What{dir.Taken, dir.Removed, dir.Taken} {
		var noted []dir.Change
		for host := range severally + 5 {
			noted = append(noted, dir.Change{
				Name: keysource.Name(fmt.Sprintf("host-%02d.example", host)), What: what, Version: fmt.Sprint(i),
			})
		}
		log.tell(noted)
		log.settle(t.Context())
	}
	audited, told := l.audited(), strings.Join(l.told, "\n")
	if strings.Count(audited, "for the first time") != 1 || strings.Count(told, "for the first time") != 1 ||
		strings.Count(audited, "certs-taken") != 2 {
		t.Errorf("%s\n%s", audited, told)
	}
}

func TestTheEndOfACertificateIsToldOnceAtEachStage(t *testing.T) {
	l := newLab(t)
	log := New(Config{File: l.file, Audit: l, Log: slog.New(slog.DiscardHandler), Record: func(e recorder.Entry) {
		l.told = append(l.told, e.Text)
	}})
	now := time.Date(2026, 11, 30, 0, 0, 0, 0, time.UTC)
	const day = 24 * time.Hour
	log.known["long.example"] = version{Version: "1", NotBefore: now.Add(-60 * day), NotAfter: now.Add(30 * day)}
	log.known["short.example"] = version{Version: "1", NotBefore: now, NotAfter: now.Add(3 * day)}
	for hour := range 31 * 24 {
		at := now.Add(time.Duration(hour) * time.Hour)
		n := len(l.told)
		log.tellEnds(at)
		for _, s := range l.told[n:] {
			t.Logf("%s: %s", at.Format(time.DateTime), s)
		}
	}
	if len(l.told) != 6 || !strings.Contains(l.told[5], "long.example in the directory expired at 2026-12-30") {
		t.Errorf("%d lines: %v", len(l.told), l.told)
	}
}

// A warning is told with the renewal, and is known again after a restart, for that version alone.
func TestWarningsAreToldAndKept(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	ca, err := fleet.NewCA("Test CA")
	if err != nil {
		t.Fatal(err)
	}
	l.issue(ca, "shop.example", "www.shop.example")
	_, d, stop := l.run()
	<-d.Ready()
	if _, err := d.Certificate(t.Context(), "shop.example"); err != nil {
		t.Fatal(err)
	}
	l.issue(ca, "shop.example")
	told := func() string { return strings.Join(l.told, "\n") }
	l.eventually(told, "warning: it is not for www.shop.example")
	stop()
	c, err := d.Certificate(t.Context(), "shop.example")
	if err != nil || len(c.Warnings) != 1 {
		t.Fatalf("%v, %q", err, c.Warnings)
	}
	log := New(Config{File: l.file, Audit: l, Log: slog.New(slog.DiscardHandler), Record: func(recorder.Entry) {}})
	if got := log.Last("shop.example"); got.Version != c.Version() || !slices.Equal(got.Warnings, c.Warnings) {
		t.Errorf("after a restart: %+v", got)
	}
	if got := log.Last("other.example"); got.Version != "" {
		t.Errorf("of another name: %+v", got)
	}
}
