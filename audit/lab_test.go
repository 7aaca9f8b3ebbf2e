package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/lockstep-tls/lockstep/store"
	"github.com/lockstep-tls/lockstep/store/memory"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// faulty is a store whose operations may fail or hang.
type faulty struct {
	store.Store
	mu     sync.Mutex
	before func(ctx context.Context, op, key string) error
	swaps  int
	keys   func()                 // is called before Keys
	deaf   bool                   // Swap does not heed its context
	after  func(key string) error // is called after a Swap that was done
}

func newFaulty() *faulty { return &faulty{Store: memory.New()} }

func (s *faulty) set(f func(ctx context.Context, op, key string) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.before = f
}

// setAfter is for tests in which a write that took too long may still go on.
func (s *faulty) setAfter(f func(key string) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.after = f
}

func (s *faulty) begin(ctx context.Context, op, key string) error {
	s.mu.Lock()
	f := s.before
	if op == "swap" {
		s.swaps++
	}
	s.mu.Unlock()
	if f == nil {
		return nil
	}
	return f(ctx, op, key)
}

func (s *faulty) Get(ctx context.Context, key string) ([]byte, store.Rev, error) {
	if err := s.begin(ctx, "get", key); err != nil {
		return nil, 0, err
	}
	return s.Store.Get(ctx, key)
}

func (s *faulty) Swap(ctx context.Context, key string, old store.Rev, val []byte) (store.Rev, error) {
	if err := s.begin(ctx, "swap", key); err != nil {
		return 0, err
	}
	if s.deaf {
		ctx = context.WithoutCancel(ctx)
	}
	rev, err := s.Store.Swap(ctx, key, old, val)
	s.mu.Lock()
	after := s.after
	s.mu.Unlock()
	if err == nil && after != nil {
		err = after(key)
	}
	return rev, err
}

func (s *faulty) Now(ctx context.Context) (time.Time, error) {
	if err := s.begin(ctx, "now", ""); err != nil {
		return time.Time{}, err
	}
	return s.Store.Now(ctx)
}

func (s *faulty) Keys(ctx context.Context, prefix string) iter.Seq2[string, error] {
	if s.keys != nil {
		s.keys()
	}
	if err := s.begin(ctx, "keys", prefix); err != nil {
		return func(yield func(string, error) bool) { yield("", err) }
	}
	return s.Store.Keys(ctx, prefix)
}

// stored is what package storesink makes of a store. That one cannot be imported here, since it
// imports this package.
type stored struct{ s store.Store }

func (r stored) Get(ctx context.Context, name string) ([]byte, uint64, error) {
	text, rev, err := r.s.Get(ctx, name)
	return text, uint64(rev), said(err)
}

func (r stored) Swap(ctx context.Context, name string, old uint64, text []byte) (uint64, error) {
	rev, err := r.s.Swap(ctx, name, store.Rev(old), text)
	return uint64(rev), said(err)
}

func (r stored) Keys(ctx context.Context, prefix string) iter.Seq2[string, error] {
	return r.s.Keys(ctx, prefix)
}

func (r stored) Now(ctx context.Context) (time.Time, error) { return r.s.Now(ctx) }

func said(err error) error {
	for from, to := range map[error]error{
		store.ErrNotExist: ErrNotExist, store.ErrConflict: ErrConflict, store.ErrSealed: ErrSealed,
	} {
		if errors.Is(err, from) {
			return errors.Join(err, to)
		}
	}
	return err
}

var errDown = errors.New("the disk is on fire")

func down(context.Context, string, string) error { return errDown }

// discard is a log for nobody.
var discard = slog.New(slog.NewTextHandler(io.Discard, nil))

// patient is the time of a sink in tests in which none hangs. A machine that stands still for a
// moment does not fail them.
const patient = 20 * time.Second

// hasty is for tests in which a sink hangs, or is slow.
func hasty(c *Config) { c.within = within }

// open makes a log whose sinks have much time, unless change says otherwise.
func open(t *testing.T, s store.Store, change func(*Config)) *Log {
	t.Helper()
	c := Config{Records: stored{s}, Replica: "r1", Log: discard, within: patient}
	if change != nil {
		change(&c)
	}
	l, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

func fill(t *testing.T, l *Log, n int) (last Head) {
	t.Helper()
	for i := range n {
		var err error
		if last, err = l.Append(t.Context(), Entry{
			Actor: "me", What: "test", Why: fmt.Sprintf("reason %d %s", i, strings.Repeat("x", 200)),
		}); err != nil {
			t.Fatal(err)
		}
	}
	return last
}

func verify(t *testing.T, l *Log, ws ...Witness) Report {
	t.Helper()
	r, err := l.Verify(t.Context(), func(context.Context) ([]Witness, error) { return ws, nil })
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func sound(t *testing.T, l *Log, lines uint64) {
	t.Helper()
	if r := verify(t, l); len(r.Problems) > 0 || r.Lines != lines || r.Head.Number != lines {
		t.Fatalf("%d lines, head %v, %v; want %d sound ones", r.Lines, r.Head, r.Problems, lines)
	}
}

// edit changes the lines of a record in the store.
func edit(t *testing.T, s store.Store, key string, f func(lines [][]byte) [][]byte) {
	t.Helper()
	text, rev, err := s.Get(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	text = append(bytes.Join(f(split(text)), []byte("\n")), '\n')
	if _, err := s.Swap(t.Context(), key, rev, text); err != nil {
		t.Fatal(err)
	}
}

// tidy puts aside what is full, as Run does.
func tidy(t *testing.T, l *Log) {
	t.Helper()
	for seg, ok := l.shared.next(); ok; seg, ok = l.shared.next() {
		if err := l.shared.putAside(t.Context(), seg); err != nil {
			t.Fatal(err)
		}
	}
}

// archived are the records beside audit/head.
func archived(t *testing.T, s store.Store) (keys []string) {
	t.Helper()
	for key, err := range s.Keys(t.Context(), linesPrefix) {
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, key)
	}
	return keys
}

func temp(t *testing.T, name string) string { return filepath.Join(t.TempDir(), name) }

// Summary is a report in one sentence.
func (r Report) Summary() string {
	if len(r.Problems) == 0 {
		return fmt.Sprintf("%s: %d lines, each as it was written, none missing", r.Chain, r.Lines)
	}
	var words []string
	for _, p := range r.Problems {
		words = append(words, p.Words)
	}
	return fmt.Sprintf("%s: %s", r.Chain, strings.Join(words, "; "))
}
