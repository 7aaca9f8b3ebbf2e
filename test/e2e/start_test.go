package e2e

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

// TestEnvoysThatStartFirstWait: without a control plane an Envoy is not ready and its port is
// closed, however long it takes; then all come up and resume each other's sessions.
func TestEnvoysThatStartFirstWait(t *testing.T) {
	t.Parallel() // it mostly waits
	s := newStage(t, setup{later: true})
	for i := range 3 {
		s.envoy(fmt.Sprintf("edge-%d", i+1))
	}
	s.eventually(func() error { return errors.Join(s.envoys[0].waits(), s.envoys[1].waits(), s.envoys[2].waits()) })
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(500 * time.Millisecond) {
		for _, e := range s.envoys {
			s.ok(e.waits())
		}
	}
	began := time.Now()
	s.start()
	s.awaitReady()
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("all served %s after lockstepd's start", took)
	}
	s.awaitPhase("steady", 3)
	a := s.clients()
	a.cross("the late start")
	s.mustRun(s.verify(s.envoys...)...)
}

// TestScopeThatDoesNotExist: an Envoy of a scope that is not configured gets no answer and serves
// nothing; it is named, and hurts nobody.
func TestScopeThatDoesNotExist(t *testing.T) {
	s := newStage(t, setup{})
	s.fleetOf(2)
	s.awaitPhase("steady", 2)
	a := s.clients()
	lost := s.envoy("lost", "--scope", "nope")
	s.eventually(func() error {
		if log := s.plane.LogTail(1000); !strings.Contains(log, `"node":"lost"`) || !strings.Contains(log, "nope") {
			return errors.New("the log does not name the node and the scope")
		}
		return nil
	})
	s.eventually(lost.waits)
	s.mustRun("rotate", "--wait", "--timeout", "10s")
	s.mustFail(4, "nope", "rotate", "nope")
	a.awaitKeyInUse()
	a.cross("a rotation")
	s.ok(lost.waits())
}

// TestHostWithoutACertificate: its handshakes are reset at once, those of other hosts are not, and
// a certificate that comes later repairs it on the live Envoys.
func TestHostWithoutACertificate(t *testing.T) {
	s := newStage(t, setup{})
	s.envoy("edge-1", "--host", "late.example")
	s.envoy("edge-2", "--host", "late.example")
	s.awaitReady()
	s.awaitPhase("steady", 2)
	a := s.clients()
	for _, e := range s.envoys {
		began := time.Now()
		if err := s.reaches(e, "late.example"); err == nil {
			t.Fatal("a handshake without a certificate succeeded")
		}
		if took := time.Since(began); took > time.Second {
			t.Errorf("it took %s to fail", took)
		}
	}
	a.cross("handshakes for a host without a certificate")
	s.mustFail(4, "late.example", "cert", "get", "late.example")

	s.writePair("late.example", s.issue("late.example"))
	for _, e := range s.envoys {
		s.eventuallyWithin(2*time.Second, func() error { return s.reaches(e, "late.example") })
	}
	s.mustRun(s.verify(s.envoys...)...)
	a.cross("the certificate came")
}
