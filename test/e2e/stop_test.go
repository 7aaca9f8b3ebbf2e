package e2e

import (
	"testing"
	"time"
)

// TestStopAndStartGoUnnoticed: SIGTERM ends lockstepd within seconds and with status 0 although
// Envoys are connected; they serve on, and after the restart they are sent nothing that they hold.
func TestStopAndStartGoUnnoticed(t *testing.T) {
	s := newStage(t, setup{})
	s.fleetOf(3)
	s.awaitPhase("steady", 3)
	s.mustRun("rotate", "--wait")
	before := s.awaitPhase("steady", 3)
	a := s.clients()

	began := time.Now()
	s.ok(s.plane.Stop(8 * time.Second))
	t.Logf("lockstepd ended %s after SIGTERM", time.Since(began).Round(time.Millisecond))
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("it took %s", took)
	}
	time.Sleep(time.Second)
	a.check("lockstepd was stopped")

	s.ok(s.plane.Restart())
	s.ok(s.plane.Ready(s.ctx))
	after := s.awaitPhase("steady", 3)
	if after.Version != before.Version {
		t.Errorf("%s became %s", before.Version, after.Version)
	}
	a.cross("lockstepd came back")
	s.eventually(func() error { // certificates come by a stream of their own
		if got, want := s.secrets("accepted"), float64(len(s.envoys)*(1+len(s.hosts))); got < want {
			return errNotYet
		}
		return nil
	})
	if sent := s.secrets("sent"); sent != 0 {
		t.Errorf("%v secrets were sent after the restart, though every node held them", sent)
	}
	for _, n := range s.nodes() {
		if n.State != "live" || len(n.Secrets) != 1 || n.Secrets[0].State != "accepted" {
			t.Errorf("%+v", n)
		}
	}
	s.mustRun("rotate", "--wait")
	a.awaitKeyInUse()
	a.cross("a rotation after it")
}
