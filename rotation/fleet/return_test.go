package fleet

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/lockstep-tls/lockstep/rotation"
)

// A node that restarts is not known for the one that is away until it accepts its first ring; from
// then on nobody waits for it.
func TestARestartedNodeIsWaitedForNoLongerThanItTakes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := start(t, newFaulty(), "r1")
		p.connect("a", "")
		b := p.connect("b", "")
		p.phase(gather, rotation.Steady, 1)
		p.disconnect(b)
		p.rotate()
		p.phase(time.Second, rotation.Distributing, 2)
		p.connect("b", "")
		p.phase(2*gather, rotation.Steady, 3)
	})
}

// A node whose connection died silently is back before its old stream ends: it is one member all
// along, once that is known.
func TestANodeThatIsBackBeforeItsOldStreamEndsIsCountedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := start(t, newFaulty(), "r1")
		a := p.connect("a", "")
		p.phase(gather, rotation.Steady, 1)
		p.rotate()
		p.phase(2*gather, rotation.Steady, 3)
		held := p.status().Version
		back := p.connect("a", held)
		p.phase(2*gather, rotation.Steady, 3)
		p.disconnect(a)
		p.phase(2*gather, rotation.Steady, 3)
		if ms := p.status().Members; len(ms) != 1 || ms[0].Name() != "a" ||
			!ms[0].Connected || ms[0].Stream != back.stream {
			t.Fatalf("the roster: %+v", ms)
		}
		p.rotate()
		p.phase(2*gather, rotation.Steady, 5)

		// A second node under the id, which comes with nothing, is another member: its end does
		// not hide the first's.
		twin := p.connect("a", "")
		p.phase(2*gather, rotation.Steady, 5)
		p.disconnect(back)
		p.phase(2*gather, rotation.Steady, 5)
		if ms := p.status().Members; len(ms) != 2 || ms[0].Connected || ms[1].Stream != twin.stream {
			t.Fatalf("the roster: %+v", ms)
		}
	})
}
