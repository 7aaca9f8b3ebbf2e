package e2e

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

// TestKilledInAnyPhase holds a rollout in each phase by a node that withholds its answer, kills
// lockstepd there, and demands after each step that nothing was lost and nobody turned away.
func TestKilledInAnyPhase(t *testing.T) {
	t.Parallel() // it mostly waits
	s := newStage(t, setup{})
	s.fleetOf(3)
	last := s.scripted("last", accept) // the node that everybody waits for
	s.awaitPhase("steady", 4)
	a := s.clients()

	t.Run("steady, a key drains", func(t *testing.T) {
		s := s.in(t)
		s.mustRun("rotate", "--wait")
		a := a.in(s)
		a.awaitKeyInUse()
		before := s.awaitPhase("steady", 4)
		if before.key("drain") == "" {
			t.Fatalf("no key drains: %+v", before.Keys)
		}
		after := s.killed(a, 4)
		if after.Version != before.Version || after.Rotation != before.Rotation {
			t.Errorf("%s, rotation %d became %s, rotation %d",
				before.Version, before.Rotation, after.Version, after.Rotation)
		}
	})
	for _, c := range []struct {
		phase string
		until script
	}{{"distributing", on(grows, withhold)}, {"promoting", on(leads, withhold)}} {
		phase := c.phase
		t.Run(phase, func(t *testing.T) {
			s := s.in(t)
			a := a.in(s)
			last.follow(c.until)
			s.mustRun("rotate", "--why", phase)
			before := s.awaitPhase(phase, 3)
			a.cross(phase)
			after := s.killed(a, 3)
			if after.Phase != phase || after.Version != before.Version || !slices.Equal(after.ids(), before.ids()) {
				t.Errorf("%s %s %v became %s %s %v",
					before.Phase, before.Version, before.Keys, after.Phase, after.Version, after.Keys)
			}
			last.follow(accept)
			s.awaitPhase("steady", 4)
			a.awaitKeyInUse()
			a.cross("the end of the rotation")
			if got, want := s.happened(before.Rotation),
				[]string{"distributing", "promoting", "done"}; !slices.Equal(got, want) {
				t.Errorf("in rotation %d happened %v, want %v", before.Rotation, got, want)
			}
		})
	}
	t.Run("burning", func(t *testing.T) {
		s := s.in(t)
		last.follow(on(leads, withhold))
		s.mustRun("burn", "--yes", "--why", "test")
		before := s.awaitPhase("burning", 3)
		a.stop() // tickets of burnt keys are refused, as they must be; no handshake fails
		counts, words := a.Counts()
		for _, c := range counts {
			if c.Failed > 0 {
				t.Fatalf("handshakes failed while keys were burnt: %q", words)
			}
		}
		a := s.clients() // with tickets that are all newer than the burn
		after := s.killed(a, 3)
		if after.Phase != "burning" || after.Version != before.Version {
			t.Errorf("%s %s became %s %s", before.Phase, before.Version, after.Phase, after.Version)
		}
		if len(after.BlockedBy) != 1 || after.Nodes.Stale != 1 {
			t.Errorf("who may hold a burnt key: %v, %+v", after.BlockedBy, after.Nodes)
		}
		last.follow(accept)
		s.awaitPhase("steady", 4)
		a.cross("the end of the burn")
		if got, want := s.happened(before.Rotation), []string{"burning", "burnt"}; !slices.Equal(got, want) {
			t.Errorf("in rotation %d happened %v, want %v", before.Rotation, got, want)
		}
	})
}

// killed kills lockstepd, lets the fleet serve on without it for a moment, starts it again, and
// demands that within 3 s all Envoys are back, and accepted nodes in all.
func (s *stage) killed(a *account, accepted int) scope {
	s.t.Helper()
	a.cross("all was well")
	s.ok(s.plane.Kill())
	time.Sleep(500 * time.Millisecond)
	a.check("lockstepd was killed")
	began := time.Now()
	s.ok(s.plane.Restart())
	var sc scope
	s.eventually(func() (err error) {
		if sc, err = s.scopeOf("default"); err != nil {
			return err
		}
		if sc.Nodes.Accepted < accepted {
			return fmt.Errorf("%+v, want %d accepted; blocked by %v", sc.Nodes, accepted, sc.BlockedBy)
		}
		return nil
	})
	if took := time.Since(began); took > 3*time.Second {
		s.t.Errorf("all were back %s after the start, want 3s", took.Round(time.Millisecond))
	} else {
		s.t.Logf("all were back %s after the start", took.Round(time.Millisecond))
	}
	a.cross("lockstepd came back")
	return sc
}

// in is the stage as a subtest sees it: what fails, fails there.
func (s *stage) in(t *testing.T) *stage {
	sub := *s
	sub.t = t
	return &sub
}

func (a *account) in(s *stage) *account {
	a.s = s
	return a
}
