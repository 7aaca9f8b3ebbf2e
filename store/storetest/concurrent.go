package storetest

import (
	"errors"
	"fmt"
	"strconv"
	"sync"
	"testing"

	"github.com/lockstep-tls/lockstep/store"
)

func oneCreator(t *testing.T, s suite) {
	for round := range 5 {
		key := fmt.Sprintf("a/%d", round)
		results := make(chan error, 8)
		for i := range cap(results) {
			go func() {
				_, err := s.Swap(t.Context(), key, 0, []byte(strconv.Itoa(i)))
				results <- err
			}()
		}
		won := 0
		for range cap(results) {
			if err := <-results; err == nil {
				won++
			} else if !errors.Is(err, store.ErrConflict) {
				t.Errorf("a loser was told %v, want ErrConflict", err)
			}
		}
		if won != 1 {
			t.Fatalf("%d creators of %s won, want 1", won, key)
		}
	}
}

// noneLost lets goroutines count one key up by compare-and-swap.
func noneLost(t *testing.T, s suite) {
	const writers, each = 8, 25
	s.put("a/n", 0, "0")
	var mu sync.Mutex
	winners := map[store.Rev]int{}
	var wg sync.WaitGroup
	for range writers {
		wg.Go(func() {
			for done := 0; done < each; {
				val, rev, err := s.Get(t.Context(), "a/n")
				if err != nil {
					t.Error(err)
					return
				}
				n, _ := strconv.Atoi(string(val))
				next, err := s.Swap(t.Context(), "a/n", rev, []byte(strconv.Itoa(n+1)))
				if errors.Is(err, store.ErrConflict) {
					continue
				}
				if err != nil {
					t.Error(err)
					return
				}
				done++
				mu.Lock()
				winners[next]++
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	val, _, err := s.Get(t.Context(), "a/n")
	if want := strconv.Itoa(writers * each); err != nil || string(val) != want {
		t.Fatalf("counted to %s (%v), want %s", val, err, want)
	}
	if len(winners) != writers*each {
		t.Fatalf("%d revisions for %d swaps: some were given twice", len(winners), writers*each)
	}
}

// changedAmongWriters follows the store by Changed while it is written to: the follower must end
// up with every key.
func changedAmongWriters(t *testing.T, s suite) {
	const writers, each = 4, 30
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				if _, err := s.Swap(t.Context(), fmt.Sprintf("a/%d-%d", w, i), 0, []byte("v")); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	seen := map[string]int{}
	var head store.Rev
	for last := false; !last; {
		select {
		case <-done:
			last = true
		default:
		}
		got, next, err := s.Changed(t.Context(), "a/", head)
		if err != nil {
			t.Fatal(err)
		}
		for _, key := range got {
			seen[key]++
		}
		head = next
	}
	if len(seen) != writers*each {
		t.Fatalf("the follower saw %d keys, want %d", len(seen), writers*each)
	}
}
