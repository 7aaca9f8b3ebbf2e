package e2e

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"
)

// bootstrapped starts a lockstep-edge with the configuration that the CLI prints.
func (s *stage) bootstrapped(name string, flags ...string) *envoy {
	s.t.Helper()
	e := s.place(name)
	args := []string{"bootstrap", "edge", "--node", name, "--xds", s.plane.XDS, "--admin", e.admin,
		"--listen", e.addr, "--upstream", s.upstream.Addr,
		"--edge-data", s.path(name + ".data"), "--ticket-lifetime", lifetime.String()}
	var err error
	e.Process, err = s.fleet.Edge(bin, name, []byte(s.mustRun(append(args, flags...)...)), e.admin)
	s.ok(err)
	s.envoys = append(s.envoys, e)
	return e
}

// TestAnEdgeGetsWhatItsIdentityAllows: edges over mTLS with certificates of lockstep pki, each with
// a scope and hosts of its own. What a new policy takes away is served no more, and comes back with
// the policy; what an identity may not have is never served, and nobody waits for a node that may
// not have its ring.
func TestAnEdgeGetsWhatItsIdentityAllows(t *testing.T) {
	t.Parallel()
	s := newStage(t, setup{hosts: 3, later: true, scopes: fmt.Sprintf("  default: {ticket_lifetime: %s}\n"+
		"  partners: {ticket_lifetime: %s}\n", lifetime, lifetime)})
	dir := s.path("lockstep-pki")
	s.mustRun("pki", "init", "--dir", dir)
	s.mustRun("pki", "issue", "server", "--dir", dir, "--ip", "127.0.0.1")
	s.mustRun("pki", "issue", "node", "--dir", dir, "--node", "edge-1", "--spiffe-id", "spiffe://fleet.example/edge/1")
	s.mustRun("pki", "issue", "node", "--dir", dir, "--node", "edge-2")
	s.mustRun("pki", "issue", "node", "--dir", dir, "--node", "nobody")
	s.policy(edge1Wide + edge2Rule)
	s.overTCP("--policy", s.path("policy.yaml"), "--xds-cert", dir+"/server/tls.crt",
		"--xds-key", dir+"/server/tls.key", "--xds-client-ca", dir+"/ca.crt")
	s.start()
	one, two := s.bootstrapped("edge-1", "--pki", dir), s.bootstrapped("edge-2", "--pki", dir, "--scope", "partners")
	nobody := s.bootstrapped("nobody", "--pki", dir)
	s.awaitReady(one, two)
	s.awaitPhase("steady", 1)

	check := func(e *envoy, identity, has, hasNot, ring string) {
		t.Helper()
		s.eventually(func() error { return errors.Join(s.reaches(e, has), s.reaches(e, "host-3.example")) })
		if s.reaches(e, hasNot) == nil {
			t.Errorf("%s serves %s, which it may not have", e.name, hasNot)
		}
		want := []string{has + " accepted", "host-3.example accepted", ring + " accepted"}
		slices.Sort(want)
		s.eventually(func() error {
			if held, who := s.holds(e); !slices.Equal(held, want) || who != identity {
				return fmt.Errorf("%s (%s) holds %v, want %v (%s)", e.name, who, held, want, identity)
			}
			return nil
		})
	}
	check(one, "spiffe://fleet.example/edge/1", "host-1.example", "host-2.example", "tickets/default")
	check(two, "edge-2", "host-2.example", "host-1.example", "tickets/partners")
	if err := notReady(s.ctx, nobody); err != nil {
		t.Error(err)
	}
	s.mustRun("rotate", "--wait", "--timeout", "10s")
	s.ok(nobody.Kill())
	if key, now := s.encryptsWith(one, "host-3.example"), s.scope().key("encrypt"); key != now {
		t.Errorf("edge-1 encrypts with %s, the scope with %s", key, now)
	}

	// Narrowed: an edge gives up what it may no longer have, and makes tickets with the ring that
	// it has.
	before := s.encryptsWith(one, "host-3.example")
	s.policy(edge1Narrow + edge2Rule)
	s.eventually(func() error {
		if s.reaches(one, "host-1.example") == nil {
			return errors.New("edge-1 still serves host-1.example")
		}
		return nil
	})
	shared := s.renew("host-3.example")
	renewed := s.renew("host-1.example")
	s.mustRun("rotate", "--wait", "--timeout", "10s")
	s.eventually(func() error {
		return errors.Join(s.shows(one, "host-3.example", shared), s.shows(two, "host-3.example", shared))
	})
	if key := s.encryptsWith(one, "host-3.example"); key != before {
		t.Errorf("edge-1 encrypts with %s, which it may not have", key)
	}
	s.ok(two.Kill())
	s.ok(two.Restart()) // with its identity, and the ring of its copy or of the control plane
	s.awaitReady(two)

	// Widened again: without a reconnect.
	s.policy(edge1Wide + edge2Rule)
	s.eventually(func() error { return s.shows(one, "host-1.example", renewed) })
	s.awaitPhase("steady", 1)
	s.eventuallyWithin(5*time.Second, func() error {
		if key := s.encryptsWith(one, "host-3.example"); key != s.scope().key("encrypt") {
			return fmt.Errorf("edge-1 still encrypts with %s", key)
		}
		return nil
	})
	check(one, "spiffe://fleet.example/edge/1", "host-1.example", "host-2.example", "tickets/default")
	check(two, "edge-2", "host-2.example", "host-1.example", "tickets/partners")
}
