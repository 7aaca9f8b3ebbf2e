package fleet

import (
	"testing"

	"github.com/lockstep-tls/lockstep/rotation"
)

// Each time is compared with what it must be shorter or longer than.
func TestTimesFitEachOther(t *testing.T) {
	usual := rotation.DefaultPolicy().NodeLease
	if last := guessEvery[len(guessEvery)-1]; last >= forgetAfter(usual) {
		t.Errorf("nodes are let go every %s, and others go on without them after %s", last, forgetAfter(usual))
	}
	if letGoAfter <= gapAfter || letGoAfter+certainFor+answerWithin+2*lookEvery+refuseFor > silentFor {
		t.Errorf("nodes are let go after %s, and their replica is dead after %s", letGoAfter, silentFor)
	}
	if refuseFor >= letGoEvery {
		t.Errorf("nodes are refused for %s, every %s", refuseFor, letGoEvery)
	}
	if lookWithin+retryAfter >= gapAfter || gapAfter >= silentFor {
		t.Errorf("one slow look takes %s, a gap is %s, a replica is dead after %s", lookWithin, gapAfter, silentFor)
	}
	if duplicateFor > usual {
		t.Errorf("a second entry gives way within %s, and a lease is %s", duplicateFor, usual)
	}
}
