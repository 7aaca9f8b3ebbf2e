package sds

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/xds"
)

// TestASprayWhileTheSourceIsDownIsAFewLines: the first at once, then one each ten seconds, with
// how many there were; and one broken certificate among them is named.
func TestASprayWhileTheSourceIsDownIsAFewLines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab()
		defer l.start(t)()
		c := l.caller(t, 1, xds.ADS)
		ask := func(n keysource.Name) {
			l.set(n, "!")
			l.Watch(c.node, string(n), c.mailbox)
			synctest.Wait()
		}
		lines := func() []string {
			synctest.Wait()
			return strings.Split(strings.TrimSpace(l.log.String()), "\n")
		}
		for i := range 1000 {
			ask(keysource.Name(fmt.Sprintf("u%d.example", i)))
		}
		l.set("broken.example", "?")
		l.Watch(c.node, "broken.example", c.mailbox)
		if got := lines(); len(got) != 2 || !strings.Contains(got[0], "name=u0.example") ||
			!strings.Contains(got[0], "the disk is on fire") || !strings.Contains(got[1], "broken.example") {
			t.Fatalf("%d lines: %.500q", len(got), got)
		}
		time.Sleep(failureEvery)
		if got := lines(); len(got) != 3 || !strings.Contains(got[2], "others=998") ||
			!strings.Contains(got[2], "name=u999.example") || !strings.Contains(got[2], "the disk is on fire") {
			t.Errorf("%d lines: %.500q", len(got), got[2:])
		}
		time.Sleep(3 * failureEvery) // the loads are tried again, which is no news
		if got := lines(); len(got) != 3 {
			t.Errorf("%d lines: %.500q", len(got), got[3:])
		}
		ask("late.example")
		if got := lines(); len(got) != 4 || !strings.Contains(got[3], "late.example") {
			t.Errorf("%d lines: %.500q", len(got), got[3:])
		}
		for i := range 1000 {
			c.leave(fmt.Sprintf("u%d.example", i))
		}
		c.leave("broken.example")
		c.leave("late.example")
		l.idle(t)
	})
}
