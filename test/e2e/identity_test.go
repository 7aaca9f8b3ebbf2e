package e2e

import (
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-tls/lockstep/probe"
	"github.com/lockstep-tls/lockstep/test/fleet"
)

// policy replaces policy.yaml by one rename, as an editor does.
func (s *stage) policy(rules string) {
	s.t.Helper()
	s.file("policy.new", []byte("rules:\n"+rules))
	s.ok(os.Rename(s.path("policy.new"), s.path("policy.yaml")))
}

// shows returns nil if the Envoy serves a host with that certificate.
func (s *stage) shows(e *envoy, host string, want fleet.Pair) error {
	conn, err := tls.Dial("tcp", e.addr, &tls.Config{ServerName: host, RootCAs: s.ca.Pool()})
	if err != nil {
		return err
	}
	defer conn.Close()
	pair, err := tls.X509KeyPair(want.Chain, want.Key)
	s.ok(err)
	if got := conn.ConnectionState().PeerCertificates[0]; !got.Equal(pair.Leaf) {
		return fmt.Errorf("%s shows the certificate %s of %s", e.name, got.SerialNumber, host)
	}
	return nil
}

// encryptsWith is the key that the Envoy makes tickets with.
func (s *stage) encryptsWith(e *envoy, host string) string {
	s.t.Helper()
	r, err := probe.Dial(s.ctx, e.addr, probe.Config{SNI: host, RootCAs: s.ca.Pool()}, nil)
	s.ok(err)
	if r.Session == nil {
		s.t.Fatalf("%s gave no ticket", e.name)
	}
	return r.Session.KeyID
}

// holds lists what a node holds, as the control plane knows it: "name state", sorted.
func (s *stage) holds(e *envoy) (held []string, identity string) {
	s.t.Helper()
	for _, n := range s.nodes(e.name) {
		identity = n.Identity
		for _, sec := range n.Secrets {
			if sec.State != "absent" {
				held = append(held, sec.Name+" "+sec.State)
			}
		}
	}
	slices.Sort(held)
	return held, identity
}

const (
	edge1Wide = "- {identity: \"spiffe://fleet.example/edge/*\", scopes: [default], names: [host-1.example, " +
		"host-3.example], nodes: [\"edge-{1}\"]}\n"
	edge1Narrow = "- {identity: spiffe://fleet.example/edge/1, names: [host-3.example]}\n"
	edge2Rule   = "- {identity: \"edge-*\", scopes: [partners], names: [\"host-2.example\", host-3.example]}\n"
)

// TestEachNodeGetsWhatItsIdentityAllows: two Envoys over mTLS with certificates of lockstep pki,
// each with a scope and hosts of its own. Both ask for everything; each gets its own. What a new
// policy takes away from an open stream is sent no more, and comes back with the policy.
func TestEachNodeGetsWhatItsIdentityAllows(t *testing.T) {
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
	one := s.envoy("edge-1", "--pki", dir)
	two := s.envoy("edge-2", "--pki", dir, "--scope", "partners")
	s.awaitReady(one, two)
	s.awaitPhase("steady", 1)

	check := func(e *envoy, identity string, has, hasNot string, ring string) {
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

	// The scopes are apart, on a host that both serve with one certificate.
	out := s.mustRun("verify", "--sni", "host-3.example", "--ca", s.path("ca.pem"), "--cross", one.addr+","+two.addr)
	for _, version := range []string{"TLS 1.2", "TLS 1.3"} {
		if !strings.Contains(out, version+": 2 of 2 sessions resumed at their own node, 0 of 2 at another") {
			t.Errorf("%s: %s", version, out)
		}
	}
	s.mustFail(1, "did not resume", "verify", "--sni", "host-3.example", "--ca", s.path("ca.pem"), one.addr, two.addr)

	// One that asks for another scope's ring gets no answer, never opens its port, and nobody waits
	// for it; nor for one that no rule names, nor for one that has an id which is not its own.
	liar := s.envoy("edge-3", "--xds-ca", dir+"/ca.crt", "--xds-cert", dir+"/nodes/edge-1/tls.crt",
		"--xds-key", dir+"/nodes/edge-1/tls.key")
	greedy := s.envoy("greedy", "--xds-ca", dir+"/ca.crt", "--xds-cert", dir+"/nodes/edge-2/tls.crt",
		"--xds-key", dir+"/nodes/edge-2/tls.key")
	nobody := s.envoy("nobody", "--pki", dir)
	s.eventually(func() error { return errors.Join(greedy.waits(), nobody.waits(), liar.waits()) })
	s.eventually(func() error {
		if !strings.Contains(s.plane.LogTail(2000), "a node was turned away by the policy") {
			return errors.New("the log does not say that edge-3 was turned away")
		}
		return nil
	})
	s.mustRun("rotate", "--wait", "--timeout", "10s")
	s.ok(errors.Join(greedy.waits(), nobody.waits(), liar.waits()))
	if r := s.lockstep("explain", "host-3.example", "--node", "edge-3"); r.code != 4 ||
		!strings.Contains(r.out, "was turned away at") {
		t.Errorf("explain --node of a node that was turned away: exit code %d, %s", r.code, r.out)
	}
	for _, want := range []string{
		`"node":"edge-3","identity":"spiffe://fleet.example/edge/1"`,
		`"node":"greedy","identity":"edge-2"`, `"node":"nobody","identity":"nobody"`, `"name":"tickets/default"`,
	} {
		if !strings.Contains(s.plane.LogTail(2000), want) {
			t.Errorf("the log does not say that it denied %s", want)
		}
	}
	s.ok(greedy.Kill())
	s.ok(liar.Kill())
	s.ok(nobody.Kill())

	// Narrowed: the certificate is taken from the node, the ring is not sent further, and a
	// rotation does not wait for the node.
	before := s.encryptsWith(one, "host-3.example")
	if key := s.scope().key("encrypt"); key != before {
		t.Fatalf("edge-1 encrypts with %s, the scope with %s", before, key)
	}
	s.policy(edge1Narrow + edge2Rule)
	s.eventually(func() error {
		if held, _ := s.holds(one); !slices.Equal(held, []string{"host-3.example accepted"}) {
			return fmt.Errorf("edge-1 still holds %v", held)
		}
		return nil
	})
	renewed := s.renew("host-1.example")
	shared := s.renew("host-3.example")
	s.mustRun("rotate", "--wait", "--timeout", "10s")
	s.eventually(func() error {
		return errors.Join(s.shows(one, "host-3.example", shared), s.shows(two, "host-3.example", shared))
	})
	if key := s.encryptsWith(one, "host-3.example"); key != before || s.scope().key("encrypt") == before {
		t.Errorf("edge-1 encrypts with %s, before with %s, the scope with %s", key, before, s.scope().key("encrypt"))
	}
	if s.shows(one, "host-1.example", renewed) == nil {
		t.Error("edge-1 got a certificate that it may no longer have")
	}

	// A policy that cannot be used changes nothing, and is said.
	s.policy("- {identity: edge-1}\n")
	s.eventually(func() error {
		var st status
		s.ok(s.show(&st, "status"))
		if !strings.Contains(strings.Join(st.Degraded, " "), "rule 1 (line 2)") {
			return fmt.Errorf("degraded: %v", st.Degraded)
		}
		return nil
	})
	s.ok(s.shows(two, "host-2.example", s.pairOf("host-2.example")))

	// Widened again: it is back, without a reconnect.
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

// pairOf reads what the certificate directory holds of a host.
func (s *stage) pairOf(host string) fleet.Pair {
	s.t.Helper()
	crt, err := os.ReadFile(fleet.HostDir(s.certs, host) + "/tls.crt")
	s.ok(err)
	key, err := os.ReadFile(fleet.HostDir(s.certs, host) + "/tls.key")
	s.ok(err)
	return fleet.Pair{Chain: crt, Key: key}
}
