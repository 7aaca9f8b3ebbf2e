package audit

import (
	"context"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lockstep-tls/lockstep/store/memory"
)

// runs has l's Run run until the function that it returns is called.
func runs(t *testing.T, l *Log) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	return func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// Each operation takes so long that an append has time for two, the clock and the line. It needs no
// more: neither when audit/head is full, nor after a restart, nor after another replica has
// written.
func TestASlowStoreTakesEveryLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, mark := newFaulty(), temp(t, "mark")
		slow := func(ctx context.Context, _, _ string) error {
			select {
			case <-time.After(100 * time.Millisecond):
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		with := func(c *Config) { c.MarkFile = mark }
		append := func(l *Log, n int) {
			t.Helper()
			for range n {
				time.Sleep(3 * time.Second)
				fill(t, l, 1)
			}
		}
		s.set(slow)
		l := open(t, s, with)
		stop := runs(t, l)
		append(l, 200)
		stop()

		s.set(nil)
		sound(t, l, 200)
		// so that the line of the mark is in an older record
		fill(t, open(t, s, func(c *Config) { c.Replica = "r2" }), 200)
		s.set(slow)
		l = open(t, s, with)
		stop = runs(t, l)
		append(l, 200)
		s.set(nil)
		fill(t, open(t, s, func(c *Config) { c.Replica = "r2" }), 1)
		s.set(slow)
		time.Sleep(3 * time.Second)
		if _, err := l.Append(t.Context(), Entry{What: "test"}); err == nil {
			t.Error("it wrote without knowing what the other one wrote; or the store is not slow enough for this test")
		}
		append(l, 1) // what it needs to know was read meanwhile
		stop()
		s.set(nil)
		sound(t, l, 603) // one tells of the line that was refused
		if n := len(archived(t, s)); n < 10 {
			t.Errorf("%d records", n)
		}
	})
}

// Putting lines aside takes longer than an append may: it never waits for that.
func TestAFullHeadIsPutAsideBeforeAnAppendHasToDoIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFaulty()
		s.set(func(_ context.Context, op, key string) error {
			if op == "swap" && strings.HasPrefix(key, linesPrefix) {
				time.Sleep(2 * within)
			}
			return nil
		})
		l := open(t, s, nil)
		stop := runs(t, l)
		defer stop()
		for range 300 {
			began := time.Now()
			fill(t, l, 1)
			if took := time.Since(began); took > 0 {
				t.Fatalf("an append took %s", took)
			}
			time.Sleep(time.Second)
			if text, _, err := s.Get(t.Context(), headName); err != nil || len(text) > headMax {
				t.Fatalf("%d bytes, %v", len(text), err)
			}
		}
		sound(t, l, 300)
	})
}

// The store was emptied, and a replica that knew nothing of it made a new key before one that had
// the old one came to write.
func TestAKeyThatAnotherReplicaMadeAnewIsTaken(t *testing.T) {
	for name, others := range map[string]int{"the key alone": 0, "a few lines": 3, "more than before": 30} {
		t.Run(name, func(t *testing.T) {
			s := memory.New()
			l := open(t, s, nil)
			fill(t, l, 10)
			for key, err := range s.Keys(t.Context(), "") {
				if err != nil {
					t.Fatal(err)
				}
				_, rev, _ := s.Get(t.Context(), key)
				if _, err := s.Swap(t.Context(), key, rev, nil); err != nil {
					t.Fatal(err)
				}
			}
			other := open(t, s, func(c *Config) { c.Replica = "r2" })
			if _, err := other.keys(t.Context()); err != nil {
				t.Fatal(err)
			}
			fill(t, other, others)
			made, _, err := s.Get(t.Context(), keyName)
			if err != nil {
				t.Fatal(err)
			}
			fill(t, l, 2)
			fill(t, other, 2)
			fill(t, l, 1)
			if now, _, err := s.Get(t.Context(), keyName); err != nil || !slices.Equal(now, made) {
				t.Errorf("the key was replaced: %v", err)
			}
			for _, by := range []*Log{l, other, open(t, s, func(c *Config) { c.Replica = "r3" })} {
				r := verify(t, by)
				for _, p := range r.Problems {
					if p.Fault != faultMissing && (by != l || p.Fault != faultReplaced) {
						// l knows which line 10 was
						t.Errorf("%s: %s", by.cfg.Replica, p.Words)
					}
				}
				if want := uint64(others) + 6; r.Lines != want {
					t.Errorf("%s finds %d lines, want %d: %s", by.cfg.Replica, r.Lines, want, r.Summary())
				}
			}
			lines, err := l.Lines(t.Context(), 6)
			if err != nil || !slices.ContainsFunc(lines, func(l Line) bool {
				return l.What == "audit-broken" && l.Replica == "r1"
			}) {
				t.Errorf("it does not say that it was broken: %+v %v", lines, err)
			}
		})
	}
}

// A reader that still has the old key takes the new one too.
func TestALogIsVerifiedByTheKeyThatIsStored(t *testing.T) {
	s := memory.New()
	reader := open(t, s, func(c *Config) { c.Replica = "r2" })
	if _, err := reader.keys(t.Context()); err != nil {
		t.Fatal(err)
	}
	_, rev, err := s.Get(t.Context(), keyName)
	if err == nil {
		_, err = s.Swap(t.Context(), keyName, rev, nil)
	}
	if err != nil {
		t.Fatal(err)
	}
	fill(t, open(t, s, nil), 3)
	sound(t, reader, 3)
}
