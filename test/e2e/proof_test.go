package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-tls/lockstep/test/fleet"
)

// shownSecret is what nodes shows of one secret of a node.
type shownSecret struct {
	Name, Version, State, Refused, Note string
	At                                  time.Time
}

func (s *stage) secretOf(node, name string) (out shownSecret) {
	s.t.Helper()
	var l struct {
		Nodes []struct {
			Node    string
			Secrets []shownSecret
		}
	}
	s.ok(s.show(&l, "nodes", node))
	for _, n := range l.Nodes {
		for _, sec := range n.Secrets {
			if n.Node == node && sec.Name == name {
				return sec
			}
		}
	}
	return out
}

const ringName = "tickets/default"

// proved returns nil once handshakes with the node have shown that it uses its ring, after that
// time.
func (s *stage) proved(node string, after time.Time) error {
	s.t.Helper()
	sec := s.secretOf(node, ringName)
	if sec.State != "proved" || sec.At.Before(after) {
		return fmt.Errorf("%s: %+v", node, sec)
	}
	return nil
}

// TestANodeWhoseCertificateWasRefusedIsProvedAfterTheCure: one host of a real Envoy gets a
// certificate that it refuses. The node is shown as refusing; when it has taken the last good one,
// and its ring again, handshakes with every host prove it.
func TestANodeWhoseCertificateWasRefusedIsProvedAfterTheCure(t *testing.T) {
	s := newStage(t, setup{later: true})
	s.plane.Args = append(s.plane.Args, "--canary", "0s") // both nodes refuse it
	s.start()
	for _, name := range []string{"edge-1", "edge-2"} {
		s.eagerAt(s.relay(s.plane.XDS).Addr, name, s.hosts)
	}
	s.awaitReady()
	s.awaitPhase("steady", 2)
	host := s.hosts[0]
	good := s.renew(host)
	s.eventually(func() error { return s.serves(host, good) })
	if sec := s.secretOf("edge-1", ringName); sec.State != "accepted" {
		t.Fatalf("nothing was in doubt: %+v", sec)
	}
	begun := time.Now()
	s.ok(fleet.WriteHost(s.certs, host, s.issueOdd(host)))
	s.eventually(func() error {
		if sec := s.secretOf("edge-1", host); sec.State != "refused" {
			return fmt.Errorf("%+v", sec)
		}
		return nil
	})
	for _, e := range s.envoys {
		s.eventually(func() error { return s.proved(e.name, begun) })
		if sec := s.secretOf(e.name, ringName); !strings.Contains(sec.Note, "2 hosts, TLS 1.2 and 1.3") ||
			strings.Contains(sec.Note, "no other") {
			t.Errorf("%s: %+v", e.name, sec)
		}
	}
	s.mustFail(3, host+" is refused by 2 nodes", "status")
	var e struct{ Nodes []shownSecret }
	s.ok(s.show(&e, "explain", host))
	if len(e.Nodes) != 2 || slices.ContainsFunc(e.Nodes, func(h shownSecret) bool { return h.State != "refused" }) {
		t.Errorf("explain: %+v", e.Nodes)
	}
	mended := s.renew(host)
	s.eventually(func() error { return s.serves(host, mended) })
	s.eventually(func() error {
		if r := s.lockstep("status"); r.code != 0 {
			return fmt.Errorf("status: exit code %d: %s", r.code, r.err)
		}
		return nil
	})
	s.clients().cross("the cure")
}

// TestANodeThatRefusedItsRingIsProvedByRealHandshakes: the second process under a real Envoy's id
// refuses a ring, and takes it back. So the node was in doubt, and every host of it is tried.
func TestANodeThatRefusedItsRingIsProvedByRealHandshakes(t *testing.T) {
	s := newStage(t, setup{})
	s.fleetOf(2)
	s.awaitPhase("steady", 2)
	second := s.scripted("edge-1", accept)
	s.awaitPhase("steady", 3)
	begun := time.Now()
	second.follow(on(grows, refuse("no room")))
	s.mustRun("rotate", "--why", "test")
	s.eventually(func() error {
		if r := s.lockstep("status"); r.code != 3 || !strings.Contains(r.err, "no room") {
			return fmt.Errorf("status: exit code %d: %s", r.code, r.err)
		}
		return nil
	})
	second.follow(accept)
	var sec shownSecret
	s.eventually(func() error {
		// the rotation is tried again after a second, and brings another ring
		if sec = s.secretOf("edge-1", ringName); sec.State != "proved" || sec.At.Before(begun) {
			return fmt.Errorf("%+v", sec)
		}
		if r := s.lockstep("status"); !strings.Contains(r.out, "proved") {
			return fmt.Errorf("status: %s%s", r.out, r.err)
		}
		return nil
	})
	if !strings.Contains(sec.Note, "2 hosts, TLS 1.2 and 1.3") || strings.Contains(sec.Note, "no other") {
		t.Errorf("%+v", sec)
	}
	if other := s.secretOf("edge-2", ringName); other.State != "accepted" {
		t.Errorf("nobody doubted %+v", other)
	}
}

// TestInHybridModeTheHostsOfTheListenerAreTried: the port is the template's, and a host on demand
// is not tried.
func TestInHybridModeTheHostsOfTheListenerAreTried(t *testing.T) {
	s := newStage(t, setup{later: true})
	addr := s.listen("  hosts: [host-1.example]\n")
	s.start()
	e := s.hybrid("edge-1", addr)
	s.awaitReady()
	s.awaitPhase("steady", 1)
	for _, h := range s.hosts { // the second one on demand
		s.eventually(func() error { _, err := s.served(e, h); return err })
	}
	second := s.scripted("edge-1", accept)
	s.awaitPhase("steady", 2)
	begun := time.Now()
	second.follow(on(grows, refuse("no room")))
	s.mustRun("rotate", "--why", "test")
	s.eventually(func() error {
		sec := s.secretOf("edge-1", ringName)
		if sec.State != "proved" || sec.At.Before(begun) || !strings.Contains(sec.Note, "1 hosts") {
			return fmt.Errorf("%+v", sec)
		}
		return nil
	})
}

// TestANodeThatDemandsTheProxyProtocolIsProved: its listener closes what comes without a header.
// lockstep verify sends one if it is told so.
func TestANodeThatDemandsTheProxyProtocolIsProved(t *testing.T) {
	s := newStage(t, setup{})
	e := s.place("edge-1")
	const inspector = `    - name: "envoy.filters.listener.tls_inspector"`
	config := strings.Replace(string(s.bootstrap(e, s.plane.XDS, s.eagerFlags(e, s.hosts)...)), inspector,
		`    - name: "envoy.filters.listener.proxy_protocol"
      typed_config:
        "@type": type.googleapis.com/envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol
`+inspector, 1)
	s.run(e, []byte(config))
	s.awaitReady()
	s.awaitPhase("steady", 1)
	if _, err := s.served(e, s.hosts[0]); err == nil {
		t.Fatal("the listener serves without a header")
	}
	s.mustFail(1, "--proxy-protocol", s.verify(e)...)
	for _, flag := range []string{"--proxy-protocol", "--proxy-protocol=v1"} {
		if out := s.mustRun(append(s.verify(e), flag)...); strings.Count(out, "1 of 1 sessions resumed") != 2 {
			t.Errorf("verify %s: %s", flag, out)
		}
	}
	second := s.scripted("edge-1", accept)
	s.awaitPhase("steady", 2)
	begun := time.Now()
	second.follow(on(grows, refuse("no room")))
	s.mustRun("rotate", "--why", "test")
	s.eventually(func() error { return s.proved("edge-1", begun) })
}
