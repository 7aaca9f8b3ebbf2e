package certlog

import (
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/lockstep-tls/lockstep/cmd/internal/recorder"
	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/keysource/dir"
)

// holding is a log that knows n certificates, as after a start with them.
func holding(t testing.TB, n int) *Log {
	l := &lab{}
	log := New(Config{
		File: filepath.Join(t.TempDir(), "certs.mark"), Audit: l, Log: slog.New(slog.DiscardHandler),
		Record: func(recorder.Entry) {},
	})
	var all []dir.Change
	for i := range n {
		all = append(all, taken(i, "first"))
	}
	log.tell(all)
	log.settle(t.Context())
	return log
}

func taken(i int, version string) dir.Change {
	c := dir.Change{Name: keysource.Name(fmt.Sprintf("chain:host-%05d.example", i)), What: dir.Taken, Version: version}
	c.Certificate.NotBefore, c.Certificate.NotAfter = time.Unix(1, 0).UTC(), time.Unix(4e9, 0).UTC()
	return c
}

// One after the other, as nodes ask for them, certificates cost a line each.
func TestAChangeDoesNotWriteAllOthersAnew(t *testing.T) {
	t.Parallel()
	log := holding(t, 2000)
	log.tell([]dir.Change{taken(0, "second")})
	log.settle(t.Context())
	before, err := os.Stat(log.cfg.File)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 50 {
		log.tell([]dir.Change{taken(i, fmt.Sprint("third ", i))})
		log.settle(t.Context())
	}
	log.tell([]dir.Change{{Name: taken(7, "").Name, What: dir.Removed}})
	log.settle(t.Context())
	after, err := os.Stat(log.cfg.File)
	if err != nil || !os.SameFile(before, after) {
		t.Errorf("50 changes wrote all 2000 anew: %v", err)
	}
	again := New(log.cfg)
	if len(again.known) != 1999 || !maps.Equal(ids(again.known), ids(log.known)) {
		t.Errorf("%d are known after a restart, before %d", len(again.known), len(log.known))
	}
	// The lines do not grow without end.
	for i := range 25 {
		var all []dir.Change
		for k := range 100 {
			all = append(all, taken(k, fmt.Sprint("fourth ", i)))
		}
		log.tell(all)
		log.settle(t.Context())
	}
	if log.file.lines > 2000 {
		t.Errorf("%d lines behind 1999 certificates", log.file.lines)
	}
}

func ids(v versions) map[keysource.Name]string {
	all := map[keysource.Name]string{}
	for name, one := range v {
		all[name] = one.Version
	}
	return all
}

// Whatever a crash cuts off at the end, what was written before counts, and the next change too.
func TestACrashWhileALineIsWrittenLosesThatLineAlone(t *testing.T) {
	t.Parallel()
	tmp := t.TempDir()
	log := holding(t, 3)
	states := []map[keysource.Name]string{ids(log.known)}
	log.file.whole = true
	log.tell([]dir.Change{taken(0, "base")})
	log.settle(t.Context())
	states = append(states, ids(log.known))
	for i, c := range []dir.Change{taken(1, "new"), {Name: taken(2, "").Name, What: dir.Removed}, taken(3, "new")} {
		log.tell([]dir.Change{c})
		log.settle(t.Context())
		if states = append(states, ids(log.known)); log.file.lines != i+1 {
			t.Fatalf("%d lines", log.file.lines)
		}
	}
	base, err := os.ReadFile(log.cfg.File)
	if err != nil {
		t.Fatal(err)
	}
	lines, err := os.ReadFile(log.file.appended())
	if err != nil {
		t.Fatal(err)
	}
	seen := 1
	for n := range len(lines) + 1 {
		c := log.cfg
		c.File = filepath.Join(tmp, fmt.Sprint(n))
		f := file{base: c.File}
		for name, b := range map[string][]byte{c.File: base, f.appended(): lines[:n]} {
			if err := os.WriteFile(name, b, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		again := New(c)
		for seen < len(states)-1 && maps.Equal(ids(again.known), states[seen+1]) {
			seen++
		}
		if !maps.Equal(ids(again.known), states[seen]) {
			t.Fatalf("%d of %d bytes: %v", n, len(lines), ids(again.known))
		}
		if n%19 > 1 && n < len(lines) {
			continue
		}
		again.tell([]dir.Change{taken(9, "after")})
		again.settle(t.Context())
		if last := New(c); last.known[taken(9, "").Name].Version != "after" ||
			len(last.known) != len(again.known) {
			t.Fatalf("%d of %d bytes, then a change: %v", n, len(lines), ids(last.known))
		}
	}
	if seen != len(states)-1 {
		t.Errorf("all lines lead to state %d of %d", seen, len(states)-1)
	}
	// An earlier version wrote the base, and knew of no lines.
	if err := os.WriteFile(log.cfg.File, []byte(`{"a":{"version":"1"}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if v := New(log.cfg).known; len(v) != 1 || v["a"].Version != "1" {
		t.Errorf("lines of another base count: %v", v)
	}
}

func BenchmarkAChangeAmongTenThousand(b *testing.B) {
	log := holding(b, 10_000)
	i := 0
	for b.Loop() {
		i++
		log.tell([]dir.Change{taken(i%10_000, fmt.Sprint(i))})
		log.settle(b.Context())
	}
}
