package catalog

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/store"
)

// vain asks for n names that are not there and returns how many reads of the store that cost.
func vain(t *testing.T, c *Catalog, round string, n int) uint64 {
	t.Helper()
	before := c.Reads()
	for i := range n {
		if _, err := c.Certificate(t.Context(),
			keysource.Name(fmt.Sprintf("u%d.%s.example", i, round))); !errors.Is(err, keysource.ErrNotExist) {
			t.Fatal(err)
		}
	}
	return c.Reads() - before
}

func TestManyUnknownNamesCostNoReads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, s, ca := setUp(t)
		c, other := New(Config{Store: store.OneByOne(s)}), New(Config{Store: s.Store})
		old := put(t, other, ca, "old.example")
		put(t, other, ca, "*.wild.example")
		put(t, other, ca, "gone.example")
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- c.Run(ctx) }()
		<-c.Ready()
		if reads := vain(t, c, "first", knownAfter); reads != knownAfter {
			t.Errorf("%d reads for the first names", reads)
		}
		synctest.Wait()
		if reads := vain(t, c, "second", 100_000); reads != 0 {
			t.Errorf("%d reads for the others", reads)
		}
		has := func(n keysource.Name, version string) {
			t.Helper()
			have, err := c.Certificate(t.Context(), n)
			if err != nil || version != "" && have.Version() != version {
				t.Errorf("%s: %v, %v", n, have, err)
			}
		}
		fail := func(looks []error) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.changed = looks
		}
		has("old.example", old.Version())
		has("*.wild.example", "")

		put(t, c, ca, "mine.example")
		has("mine.example", "") // at once
		renewed := put(t, other, ca, "old.example")
		has("old.example", renewed.Version())
		put(t, other, ca, "theirs.example")
		time.Sleep(defaultRefresh)
		synctest.Wait()
		has("theirs.example", "") // within a refresh
		for i := range 1200 {     // the sorted part takes them in
			c.known.changed([]keysource.Name{keysource.Name(fmt.Sprintf("n%d.example", i))})
		}
		has("theirs.example", "")
		if err := other.Remove(t.Context(), "gone.example"); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Certificate(t.Context(), "gone.example"); !errors.Is(err, keysource.ErrNotExist) {
			t.Errorf("removed: %v", err)
		}

		// While the store cannot be read, what was known of it becomes too old to call a name
		// absent.
		cut := errors.New("cut off")
		fail(slices.Repeat([]error{cut}, 100))
		time.Sleep((knownStale + 1) * defaultRefresh)
		s.get = []error{cut}
		if _, err := c.Certificate(t.Context(), "unknown.example"); !errors.Is(err, cut) {
			t.Errorf("cut off: %v", err)
		}
		fail(nil)
		time.Sleep(defaultRefresh)
		synctest.Wait()
		if reads := vain(t, c, "third", 1000); reads != 0 {
			t.Errorf("%d reads once the store is back", reads)
		}
		fail([]error{store.ErrLost})
		time.Sleep(2 * defaultRefresh)
		if reads := vain(t, c, "fourth", 10); reads != 10 {
			t.Errorf("%d reads after the store was lost", reads)
		}
		vain(t, c, "fifth", knownAfter)
		synctest.Wait()
		if reads := vain(t, c, "sixth", 10); reads != 0 {
			t.Errorf("%d reads: it was not learnt again", reads)
		}
		time.Sleep(knownFor + defaultRefresh)
		synctest.Wait()
		if c.known.hashes != nil {
			t.Error("kept although nobody asks any more")
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// TestALostStoreIsForgotten: what was known of it, and what is being learnt while it is lost; and
// nothing is kept of what is put afterwards.
func TestALostStoreIsForgotten(t *testing.T) {
	_, s, ca := setUp(t)
	c := New(Config{Store: store.OneByOne(s)})
	put(t, c, ca, "old.example")
	learn := func(meanwhile func()) {
		t.Helper()
		c.known.changed(nil)
		c.known.startLearning()
		meanwhile()
		if err := c.known.learnFrom(t.Context(), s); err != nil {
			t.Fatal(err)
		}
	}
	forgotten := func(what string) {
		t.Helper()
		put(t, c, ca, "new.example")
		c.known.changed([]keysource.Name{"other.example"})
		if k := c.known; k.hashes != nil || k.fresh != nil || k.lacks("unknown.example") {
			t.Errorf("%s: %d names are known, and %d more", what, len(k.hashes), len(k.fresh))
		}
	}
	learn(func() {})
	if !c.known.lacks("unknown.example") || c.known.lacks("old.example") {
		t.Fatal("it was not learnt")
	}
	c.known.forget()
	forgotten("lost when it was known")
	learn(func() { c.known.forget() })
	forgotten("lost while it was learnt")
	learn(func() { c.known.forget(); c.known.changed(nil) })
	forgotten("lost while it was learnt, and back")
	learn(func() {})
	if !c.known.lacks("unknown.example") || c.known.lacks("new.example") {
		t.Error("it was not learnt again")
	}
}
