package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// TestAnExclusionIsOfANodeThatIsKnown: a name that no node has is refused, and says which may be
// meant; nothing is degraded by it. The exclusion of a node that refuses ends the pause that its
// refusals brought.
func TestAnExclusionIsOfANodeThatIsKnown(t *testing.T) {
	t.Parallel() // it mostly waits
	s := newStage(t, setup{scopes: fmt.Sprintf(
		"  default: {ticket_lifetime: %s, refuse_grace: 5m}\n  blue: {ticket_lifetime: %[1]s}\n", lifetime)})
	s.fleetOf(1)
	odd := s.scripted("odd", accept)
	s.awaitPhase("steady", 2)
	s.mustFail(4, "the nearest of its 2 nodes is edge-1", "exclude", "egde-1", "--for", "1h")
	s.mustFail(4, `it is a node of scope "default"`, "exclude", "edge-1", "--for", "1h", "--scope", "blue")
	s.mustFail(4, "configuration has [blue default]", "exclude", "edge-1", "--for", "1h", "--scope", "green")
	s.mustFail(4, `an exclusion of node "edge-1" does not exist`, "exclude", "edge-1", "--for", "0")
	if r := s.lockstep("status"); r.code != 0 || s.scope().Nodes.Excluded != 0 {
		t.Errorf("status: exit code %d: %s", r.code, r.err)
	}

	odd.follow(on(grows, refuse("no thanks")))
	s.mustRun("rotate", "--why", "test")
	s.eventually(func() error { // 1, 2 and 4 s are over, and 8 s begin
		if n := len(slices.DeleteFunc(s.happened(1), func(w string) bool { return w != "taken-back" })); n < 4 {
			return fmt.Errorf("taken back %d times", n)
		}
		return nil
	})
	if sc := s.scope(); !strings.Contains(strings.Join(sc.BlockedBy, " "), "the next try is in") {
		t.Errorf("blocked by %q", sc.BlockedBy)
	}
	s.mustRun("exclude", "odd", "--for", "1m", "--why", "test")
	s.eventually(func() error { return s.ended(1) })
	history := s.history()
	i := slices.IndexFunc(history, func(l line) bool { return l.What == "excluded" })
	if i < 0 || i+1 >= len(history) || history[i+1].What != "distributing" || !history[i+1].At.Equal(history[i].At) {
		t.Errorf("behind the exclusion: %+v", history[i:])
	}
}
