package rotation

import (
	"testing"
	"testing/synctest"
	"time"
)

// A node that restarts is not known for the one that is away until it accepts its first ring; from then on nobody waits for it.
func TestARestartedNodeIsWaitedForNoLongerThanItTakes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := start(t, newFaulty(), "r1")
		defer p.stop()
		p.connect("a", "")
		b := p.connect("b", "")
		p.phase(gather, Steady, 1)
		p.disconnect(b)
		p.rotate()
		p.phase(time.Second, Distributing, 2)
		p.connect("b", "")
		p.phase(2*gather, Steady, 3)
	})
}
