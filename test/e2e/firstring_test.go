package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// TestAFirstRingThatIsRefused on a stream which says that it asks for a ring is a node's: it is
// shown, status is degraded, and it is waited for. On any other stream it means that a client's
// server name was asked for, and leaves no trace.
func TestAFirstRingThatIsRefused(t *testing.T) {
	t.Parallel() // it mostly waits
	const words = "Failed to load certificate chain from <inline>"
	s := newStage(t, setup{scopes: fmt.Sprintf("  default: {ticket_lifetime: %s, refuse_grace: 1s}\n", lifetime)})
	s.fleetOf(1)
	s.awaitPhase("steady", 1)
	no := func(ring, ring) answer { return answer{words: words} }

	client := s.scripted("edge-9", no) // as Envoy asks for a client's server name
	s.eventually(func() error {
		if client.toldOfNone() == 0 {
			return errNotYet
		}
		return nil
	})
	if sc := s.scope(); sc.Nodes.Live != 1 {
		t.Errorf("a stream that wants a certificate left a trace: %+v", sc.Nodes)
	}
	for _, n := range s.nodes() {
		if n.Node == "edge-9" && len(n.Secrets) > 0 {
			t.Errorf("a stream that wants a certificate is shown with a secret: %+v", n)
		}
	}
	if r := s.lockstep("status"); r.code != 0 {
		t.Errorf("status: exit code %d: %s", r.code, r.err)
	}
	s.mustRun("rotate", "--wait", "--timeout", "10s")

	node := s.scriptedOf("ring", "edge-2", no)
	s.eventually(func() error { return s.refusing("edge-2", words) })
	if r := s.lockstep("status"); r.code != 3 || !strings.Contains(r.err, "1 nodes refuse the ring") {
		t.Errorf("status: exit code %d: %s", r.code, r.err)
	}
	if node.toldOfNone() > 0 {
		t.Error("a node was told that there is no ring")
	}
	if r := s.lockstep("burn", "--yes", "--wait", "--timeout", "12s"); r.code != 6 ||
		!strings.Contains(r.err, "edge-2") || !strings.Contains(r.err, words) {
		t.Errorf("burn --wait: exit code %d: %s", r.code, r.err)
	}
	if sc := s.scope(); sc.Phase != "burning" || sc.Nodes.Refused != 1 || sc.Nodes.Accepted != 1 {
		t.Errorf("%s, %+v", sc.Phase, sc.Nodes)
	}
	node.follow(accept)
	s.eventuallyWithin(30*time.Second, func() error {
		// it is offered the ring again after 1 s, 2 s, 4 s and so on
		if sc := s.scope(); sc.Phase != "steady" || sc.Nodes.Accepted != 2 {
			return fmt.Errorf("%s, %+v, blocked by %v", sc.Phase, sc.Nodes, sc.BlockedBy)
		}
		return nil
	})
	if r := s.lockstep("status"); r.code != 0 {
		t.Errorf("status: exit code %d: %s", r.code, r.err)
	}
}
