package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestNodeThatRefusesHarmsNobodyElse: a member NACKs a new key. Its words appear, the key is taken
// back, nobody else notices; once it has gone on for refuse_grace it is only waited for, and an
// operator may let the fleet go on without it.
func TestNodeThatRefusesHarmsNobodyElse(t *testing.T) {
	t.Parallel() // it mostly waits
	const words = `invalid "ticket" key: no room`
	s := newStage(t, setup{scopes: fmt.Sprintf("  default: {ticket_lifetime: %s, refuse_grace: 4s}\n", lifetime)})
	s.fleetOf(2)
	odd := s.scripted("odd", accept)
	first := s.awaitPhase("steady", 3)
	a := s.clients()

	odd.follow(on(grows, refuse(words)))
	s.mustRun("rotate", "--why", "test")
	s.eventuallyWithin(time.Second, func() error { return s.refusing("odd", words) })
	a.check("the refusal")
	s.eventually(func() error {
		if got := s.happened(1); !slices.Contains(got, "taken-back") {
			return fmt.Errorf("happened so far: %v", got)
		}
		return nil
	})
	back := s.scope()
	if back.key("encrypt") != first.key("encrypt") {
		t.Errorf("another key encrypts: %+v", back.Keys)
	}
	if r := s.lockstep("status"); r.code != 3 || !strings.Contains(r.err, words) {
		t.Errorf("status: exit code %d, %s; want 3 and the words", r.code, r.err)
	}
	for _, n := range s.nodes() {
		if n.Node != "odd" && (n.State != "live" || len(n.Secrets) != 1 || n.Secrets[0].Refused != "") {
			t.Errorf("another node's row: %+v", n)
		}
	}
	a.cross("the key was taken back")

	// It accepts again: the same rotation ends, with all.
	odd.follow(accept)
	s.awaitPhase("steady", 3)
	s.eventually(func() error { return s.ended(1) })
	end := s.awaitPhase("steady", 3)
	if end.Rotation != 1 || end.key("encrypt") == first.key("encrypt") {
		t.Errorf("rotation %d, keys %+v", end.Rotation, end.Keys)
	}
	if r := s.lockstep("status"); r.code != 0 {
		t.Errorf("status: exit code %d: %s", r.code, r.err)
	}
	a.awaitKeyInUse()
	a.cross("the rotation ended")

	// It refuses beyond the grace: the key stays with the others, and the phase waits.
	odd.follow(on(grows, refuse(words)))
	s.mustRun("rotate", "--why", "test")
	s.eventually(func() error {
		sc, err := s.scopeOf("default")
		if err == nil && (sc.Phase != "distributing" || time.Since(s.began(2)) < 4*time.Second) {
			err = errNotYet
		}
		return err
	})
	waits := s.awaitPhase("distributing", 2)
	if len(waits.BlockedBy) != 1 || !strings.Contains(waits.BlockedBy[0], "odd") ||
		!strings.Contains(waits.BlockedBy[0], words) {
		t.Errorf("blocked by %q", waits.BlockedBy)
	}
	s.ok(s.refusing("odd", words))
	a.cross("the grace was over")

	// An operator lets the fleet go on.
	s.mustRun("exclude", "odd", "--for", "1m", "--why", "test")
	s.eventually(func() error { return s.ended(2) })
	s.eventuallyWithin(5*time.Second, func() error {
		sc, err := s.scopeOf("default")
		if err == nil && (sc.Nodes.Excluded != 1 || sc.Nodes.Accepted != 2) {
			err = fmt.Errorf("%+v", sc.Nodes)
		}
		return err
	})
	if names := s.names(); !slices.Contains(names, "odd excluded") {
		t.Errorf("%v", names)
	}
	a.awaitKeyInUse()
	a.cross("a node was excluded")

	odd.follow(accept)
	s.mustRun("exclude", "odd", "--for", "0s")
	s.eventuallyWithin(30*time.Second, func() error {
		if names := s.names(); !slices.Contains(names, "odd live") {
			return fmt.Errorf("%v", names)
		}
		return nil
	})
	a.cross("it was let in again")
}

// refusing returns nil if the node is shown as refusing, with its words.
func (s *stage) refusing(name, words string) error {
	s.t.Helper()
	for _, n := range s.nodes() {
		if n.Node != name {
			continue
		}
		for _, secret := range n.Secrets {
			if n.State == "refusing" && secret.Refused == words {
				return nil
			}
		}
		return fmt.Errorf("%+v, want state refusing with %q", n, words)
	}
	return fmt.Errorf("node %s is not shown", name)
}

// ended returns nil if the rotation has.
func (s *stage) ended(rotation uint64) error {
	s.t.Helper()
	what := s.happened(rotation)
	if !slices.Contains(what, "done") {
		return fmt.Errorf("rotation %d has not ended: %v", rotation, what)
	}
	return nil
}

// began is when a rotation began to distribute its first key.
func (s *stage) began(rotation uint64) time.Time {
	s.t.Helper()
	for _, l := range s.history() {
		if l.Rotation == rotation {
			return l.At
		}
	}
	return time.Now()
}
