package sds

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lockstep-tls/lockstep/keysource"
)

// While it is not certain what the sources have lost, nothing is called absent and nothing gives
// way to a wildcard; what is there is sent.
func TestInDoubtWhatWasSentStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab()
		var lost atomic.Bool
		l.Table.cfg.CheckComplete = func(_ context.Context, n keysource.Name) error {
			if lost.Load() {
				return errors.New("the store was emptied")
			}
			return nil
		}
		for n, what := range map[keysource.Name]string{"own.shop.example": "O", "*.shop.example": "W",
			"gone.example": "G"} {
			l.set(n, what)
		}
		defer l.start(t)()
		ask := func(names ...string) {
			l.watch(1, names...)
			synctest.Wait()
		}
		want := func(name, want string) {
			t.Helper()
			if got := l.show(t, name); got != want {
				t.Errorf("%s: %s, want %s", name, got, want)
			}
		}
		ask("own.shop.example", "gone.example", "none.example")
		want("own.shop.example", "O")
		want("none.example", "absent")

		lost.Store(true)
		l.remove("own.shop.example")
		l.remove("gone.example")
		l.Refresh([]keysource.Name{"own.shop.example", "gone.example"})
		ask("new.shop.example", "new.example")
		want("own.shop.example", "O") // and not its wildcard's, which nobody would write back
		want("gone.example", "G")
		want("new.shop.example", "W") // served by the wildcard alone
		want("new.example", "-")

		lost.Store(false)
		time.Sleep(retryMost)
		synctest.Wait()
		want("own.shop.example", "W")
		want("gone.example", "absent")
		want("new.example", "absent")
	})
}

func TestHeldSaysWhereACertificateWasFound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, files := newLab(), newSource()
		l.Table.cfg.Sources = keysource.Sources{files, l.source}
		files.set("file.example", "F")
		for n, what := range map[keysource.Name]string{"file.example": "shadowed", "*.shop.example": "W",
			"a.shop.example": "A", "gone.example": "!"} {
			l.set(n, what)
		}
		defer l.start(t)()
		l.watch(1, "file.example", "a.shop.example", "b.shop.example", "C.shop.example", "A.shop.example",
			"gone.example", "none.example")
		synctest.Wait()
		var got []string
		for _, h := range l.Sent() {
			got = append(got, fmt.Sprintf("%s %s of %d", h.Name, h.Chain, h.From))
		}
		slices.Sort(got)
		if want := []string{"*.shop.example W of 1", "a.shop.example A of 1",
			"file.example F of 0"}; !slices.Equal(got, want) {
			t.Errorf("held %q, want %q", got, want)
		}
	})
}
