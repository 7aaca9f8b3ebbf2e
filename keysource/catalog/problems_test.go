package catalog

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/store"
)

func (c *Catalog) illNames() (names []keysource.Name) {
	for _, bad := range c.BadEntries() {
		names = append(names, bad.Name)
	}
	return names
}

func TestTheLatestProblemsAreNamed(t *testing.T) {
	c, s, _ := setUp(t)
	var names []keysource.Name
	for i := range maxProblems + 50 {
		names = append(names, keysource.Name(fmt.Sprintf("h%03d.example", i)))
		plant(t, s, key(names[i]), []byte("broken"))
		c.Certificate(t.Context(), names[i])
		c.Certificate(t.Context(), names[0])
	}
	if got, want := c.illNames(), append(names[:1:1], names[51:]...); !slices.Equal(got, want) {
		t.Errorf("%d problems: %v", len(got), got)
	}
}

// What was wrong with a certificate is gone from every replica once it was put again, or removed,
// at another; no node need ask for it. One that is broken still is named still.
func TestAProblemThatWasHealedElsewhereIsForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, s, ca := setUp(t)
		here, there := New(Config{Store: store.OneByOne(s)}), New(Config{Store: s.Store})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- here.Run(ctx) }()
		<-here.Ready()
		for _, n := range []keysource.Name{"healed.example", "removed.example", "broken.example"} {
			plant(t, s, key(n), []byte("broken"))
			here.Certificate(t.Context(), n)
		}
		if got := here.illNames(); len(got) != 3 {
			t.Fatalf("%v", got)
		}
		put(t, there, ca, "healed.example")
		check(t, there.Remove(t.Context(), "removed.example"))
		plant(t, s, key("broken.example"), []byte("broken again"))
		time.Sleep(2 * defaultRefresh)
		synctest.Wait()
		if got := here.illNames(); !slices.Equal(got, []keysource.Name{"broken.example"}) {
			t.Errorf("%v", got)
		}
		cancel()
		<-done
	})
}
