package redis

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lockstep-tls/lockstep/store"
)

// writers count keys up by compare-and-swap while servers fail, each a key of its own. What was
// acknowledged must never be gone, and revisions must grow.
type writers struct {
	t     *testing.T
	size  int
	wg    sync.WaitGroup
	stop  chan struct{}
	done  atomic.Int64 // swaps without an error
	mu    sync.Mutex
	acked map[string]int // the highest count that was
	revs  map[store.Rev]bool
}

// size is of the values: big ones do not fit into the buffers on the way to a replica that is
// stalled.
func write(t *testing.T, s *Store, n, size int) *writers {
	w := &writers{t: t, size: size, stop: make(chan struct{}), acked: map[string]int{}, revs: map[store.Rev]bool{}}
	for i := range n {
		w.wg.Go(func() { w.count(s, fmt.Sprintf("count/%d", i)) })
	}
	t.Cleanup(w.end)
	return w
}

func (w *writers) end() {
	select {
	case <-w.stop:
	default:
		close(w.stop)
	}
	w.wg.Wait()
}

func (w *writers) count(s *Store, key string) {
	var last, acked store.Rev // of what it has read or written, and of what it was told is there
	count, sure := 0, false
	for {
		select {
		case <-w.stop:
			return
		case <-time.After(time.Millisecond):
		}
		if !sure {
			val, rev, err := s.Get(w.t.Context(), key)
			if err != nil && !errors.Is(err, store.ErrNotExist) {
				continue
			}
			got := number(val)
			if rev < acked {
				w.t.Errorf("%s has gone back to %d at %d, from what was written at %d", key, got, rev, acked)
			}
			last, count, sure = rev, got, true
		}
		rev, err := s.Swap(w.t.Context(), key, last, fmt.Appendf(nil, "%-*d", w.size, count+1))
		if err != nil {
			if errors.Is(err, store.ErrConflict) {
				w.t.Errorf("%s: %v, but nobody else writes it", key, err)
			}
			sure = false
			continue
		}
		if rev <= last {
			w.t.Errorf("%s: revision %d after %d", key, rev, last)
		}
		last, acked, count = rev, rev, count+1
		w.mu.Lock()
		if w.revs[rev] {
			w.t.Errorf("revision %d was given out twice", rev)
		}
		w.revs[rev] = true
		w.acked[key] = count
		w.mu.Unlock()
		w.done.Add(1)
	}
}

// goesOn waits until all write again.
func (w *writers) goesOn(within time.Duration) time.Duration {
	w.t.Helper()
	begin, before := time.Now(), w.done.Load()
	soon(w.t, within, func() error {
		if n := w.done.Load(); n < before+100 {
			return fmt.Errorf("%d swaps so far", n-before)
		}
		return nil
	})
	return time.Since(begin)
}

// check ends the writers and looks for what they were told is there.
func (w *writers) check(s *Store) {
	w.t.Helper()
	w.end()
	for key, count := range w.acked {
		val, _, err := s.Get(w.t.Context(), key)
		if got := number(val); err != nil || got < count {
			w.t.Errorf("%s is %q, %v, and %d was acknowledged", key, val, err, count)
		}
	}
	w.t.Logf("%d swaps", w.done.Load())
}

func number(val []byte) int {
	n, _ := strconv.Atoi(strings.TrimSpace(string(val)))
	return n
}
