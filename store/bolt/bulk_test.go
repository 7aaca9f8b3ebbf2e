package bolt

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lockstep-tls/lockstep/store"
)

// some are new records of an import, of about the size that they have there.
func some(of string, n int) (all []store.Change) {
	for i := range n {
		all = append(all, store.Change{Key: fmt.Sprintf("cert/%s-%d", of, i), Val: []byte(strings.Repeat("v", 1200))})
	}
	return all
}

func (s *Store) bulkWaiting(t *testing.T, parts int) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		s.mu.Lock()
		have := len(s.bulk)
		s.mu.Unlock()
		if have == parts {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%d parts wait, want %d", have, parts)
		}
	}
}

func TestASingleChangeGoesBeforeTheRestOfAnImport(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "store.db"))
	release := s.hold()
	var wg sync.WaitGroup
	for i := range 3 {
		wg.Go(func() {
			for _, o := range s.SwapAll(t.Context(), some(fmt.Sprint(i), 2*bulkMost+1)) {
				if o.Err != nil {
					t.Error(o.Err)
				}
			}
		})
	}
	s.bulkWaiting(t, 9)
	before := s.txid()
	var late store.Rev
	wg.Go(func() {
		var err error
		if late, err = s.Swap(t.Context(), "ring/default", 0, []byte("v")); err != nil {
			t.Error(err)
		}
	})
	s.waitingFor(t, 1)
	release()
	wg.Wait()
	if late != 1 {
		t.Errorf("%d records of an import came first", late-1)
	}
	if n := s.txid() - before; n != 10 {
		t.Errorf("%d transactions, want one for the single change and 9 for the parts", n)
	}
}

func TestWhatACancelledImportHasNotBegunIsNotWritten(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "store.db"))
	release := s.hold()
	ctx, cancel := context.WithCancel(t.Context())
	result := make(chan []store.Outcome)
	go func() { result <- s.SwapAll(ctx, some("a", 3*bulkMost)) }()
	s.bulkWaiting(t, 3)
	taken := s.takeBulk() // as somebody else's turn would
	cancel()
	out := <-result
	for i, o := range out {
		want := "was not written"
		if i < bulkMost {
			want = "unknown outcome"
		}
		if !errors.Is(o.Err, context.Canceled) || !strings.Contains(o.Err.Error(), want) {
			t.Fatalf("%d: %v, want %q", i, o.Err, want)
		}
	}
	s.commit(taken)
	release()
	put(t, s, "b", 0, []byte("v"))
	n := 0
	for _, err := range s.Keys(t.Context(), "cert/") {
		if n++; err != nil {
			t.Fatal(err)
		}
	}
	if n != bulkMost {
		t.Errorf("%d records are there, want %d", n, bulkMost)
	}
}

// How long a single change takes while six imports write: figures for the log; the rule is the test
// above.
func TestSingleChangesDuringAnImport(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "store.db"))
	const batches = 4
	var wg sync.WaitGroup
	for i := range 6 {
		wg.Go(func() {
			for j := range batches {
				for _, o := range s.SwapAll(t.Context(), some(fmt.Sprintf("%d-%d", i, j), store.MaxBulk)) {
					if o.Err != nil {
						t.Error(o.Err)
					}
				}
			}
		})
	}
	over := make(chan struct{})
	go func() { wg.Wait(); close(over) }()
	begin := time.Now()
	var took []time.Duration
	var rev store.Rev
	for going := true; going; {
		select {
		case <-over:
			going = false
		default:
		}
		at := time.Now()
		rev = put(t, s, "ring/default", rev, []byte("v"))
		took = append(took, time.Since(at))
	}
	all := time.Since(begin)
	slices.Sort(took)
	t.Logf("%d records in %s; of %d single changes meanwhile half took %s, 99 %% %s, the slowest %s",
		6*batches*store.MaxBulk, all.Round(time.Millisecond), len(took),
		took[len(took)/2].Round(time.Microsecond), took[len(took)*99/100].Round(time.Microsecond),
		took[len(took)-1].Round(time.Microsecond))
}
