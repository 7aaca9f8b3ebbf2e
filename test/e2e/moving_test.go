package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestNodesComeAndGoDuringARotation: one joins while a key is distributed, one is killed and comes
// back, and one is killed and does not: the rotation waits for the return, or the end of the lease,
// and no ticket is refused.
func TestNodesComeAndGoDuringARotation(t *testing.T) {
	t.Parallel() // it mostly waits
	const lease = 5 * time.Second
	s := newStage(t, setup{scopes: fmt.Sprintf("  default: {ticket_lifetime: %s, node_lease: %s}\n", lifetime, lease)})
	s.fleetOf(3)
	last := s.scripted("last", accept)
	s.awaitPhase("steady", 4)
	leaving := s.envoys[2]
	a := s.clients()

	last.follow(on(grows, withhold))
	s.mustRun("rotate", "--why", "test")
	s.awaitPhase("distributing", 3)
	late := s.envoy("late")
	s.awaitReady(late)
	s.awaitPhase("distributing", 4)
	b := s.clients(s.envoys[0], late)
	a.cross("one more joined")
	b.cross("it joined")

	// It holds the new key, and cannot say that it has put it first.
	a.downs(leaving)
	killed := time.Now()
	s.ok(leaving.Kill())
	s.eventually(func() error { return s.away(leaving) })
	last.follow(accept)
	s.blockedBy("promoting", leaving.name+": away")
	s.ok(leaving.Restart())
	s.awaitReady(leaving)
	a.ups(leaving)
	s.awaitPhase("steady", 5)
	if took := time.Since(killed); took > lease*4/5 {
		t.Errorf("the rotation ended %s after the node was lost: not by its return, but by the end of its lease", took)
	}
	s.ok(s.ended(1))
	for _, c := range []*account{a, b} {
		c.awaitKeyInUse()
		c.cross("the rotation for which a node had to return")
	}

	last.follow(on(grows, withhold))
	s.mustRun("rotate", "--why", "test")
	s.awaitPhase("distributing", 4)
	a.downs(leaving)
	killed = time.Now()
	s.ok(leaving.Kill())
	s.eventually(func() error { return s.away(leaving) })
	last.follow(accept)
	s.blockedBy("promoting", leaving.name+": away")
	s.awaitPhase("steady", 4)
	if took := time.Since(killed); took < lease {
		t.Errorf("the rotation went on %s after the node was lost, its lease is %s", took, lease)
	}
	s.ok(s.ended(2))
	a.awaitKeyInUse()
	a.cross("the rotation for which a lease had to end")
	for _, l := range s.history() {
		if len(l.LeftBehind) > 0 {
			t.Errorf("left behind: %+v", l)
		}
	}

	s.ok(leaving.Restart())
	s.awaitReady(leaving)
	a.ups(leaving)
	s.awaitPhase("steady", 5)
	a.awaitKeyInUse()
	a.cross("it came back much later")
}

// away returns nil if the node is shown so.
func (s *stage) away(e *envoy) error {
	s.t.Helper()
	if names := s.names(); !slices.Contains(names, e.name+" away") {
		return fmt.Errorf("%v, want %s away", names, e.name)
	}
	return nil
}

// blockedBy demands that a rotation is in that phase and that this alone blocks it.
func (s *stage) blockedBy(phase, words string) {
	s.t.Helper()
	s.eventually(func() error {
		sc, err := s.scopeOf("default")
		if err == nil && (sc.Phase != phase || len(sc.BlockedBy) != 1 || !strings.Contains(sc.BlockedBy[0], words)) {
			err = fmt.Errorf("%s, blocked by %q, want %s, %q", sc.Phase, sc.BlockedBy, phase, words)
		}
		return err
	})
}

// TestTwoNodesUnderOneIDAreTwo: each must accept, each is shown, and one of them alone is blamed.
func TestTwoNodesUnderOneIDAreTwo(t *testing.T) {
	s := newStage(t, setup{})
	s.fleetOf(1)
	twin := s.envoy("edge-1")
	s.awaitReady(twin)
	s.awaitPhase("steady", 2)
	third := s.scripted("edge-1", accept)
	s.awaitPhase("steady", 3)
	if names, want := s.names(), []string{"edge-1 live", "edge-1#2 live", "edge-1#3 live"}; !slices.Equal(names, want) {
		t.Errorf("%v, want %v", names, want)
	}
	third.follow(on(grows, withhold))
	s.mustRun("rotate", "--why", "test")
	s.awaitPhase("distributing", 2)
	s.blockedBy("distributing", "edge-1#3: has not accepted")
	third.follow(accept)
	s.awaitPhase("steady", 3)
	s.ok(s.ended(1))

	// One that moves to another stream is counted once.
	third.move()
	time.Sleep(200 * time.Millisecond)
	s.awaitPhase("steady", 3)
	if names, want := s.names(), []string{"edge-1 live", "edge-1#2 live", "edge-1#3 live"}; !slices.Equal(names, want) {
		t.Errorf("after a move: %v, want %v", names, want)
	}
	s.mustRun("rotate", "--wait", "--timeout", "10s")
	s.mustRun(s.verify(s.envoys...)...)
}
