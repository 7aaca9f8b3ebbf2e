package e2e

import (
	"crypto/tls"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/test/fleet"
)

// TestClientThatAsksForTheRingChangesNothing: a client names the ticket secret in its SNI, and
// Envoy's on-demand chain asks lockstepd for it as a certificate. The client fails quickly, and
// nodes, status, history, rotations and tickets are as if it had not been there.
func TestClientThatAsksForTheRingChangesNothing(t *testing.T) {
	for name, sds := range map[string]bool{"ADS": false, "SDS": true} {
		t.Run("on demand over "+name, func(t *testing.T) {
			s := newStage(t, setup{})
			s.hosts = s.hosts[:1] // the eager one
			a := s.onDemand("edge-1", sds)
			s.onDemand("edge-2", sds)
			s.awaitReady()
			held := s.scripted("held", accept)
			s.awaitPhase("steady", 3)
			clients := s.clients()
			s.ok(s.reaches(a, "host-2.example")) // on demand works at all

			s.attack(a)
			clients.cross("the ring's name came as SNI")

			held.follow(on(grows, withhold))
			s.mustRun("rotate", "--why", "test")
			s.awaitPhase("distributing", 2)
			s.attack(a)
			clients.cross("it came while a key was distributed")
			held.follow(on(leads, withhold))
			s.awaitPhase("promoting", 2)
			s.attack(a)
			clients.cross("it came while a key was promoted")
			held.follow(accept)
			s.awaitPhase("steady", 3)
			if err := s.ended(1); err != nil {
				t.Error(err)
			}

			s.attack(a)
			s.mustRun("rotate", "--wait", "--timeout", "10s", "--why", "test")
			clients.awaitKeyInUse()
			clients.cross("a rotation after it")
			s.ok(s.reaches(a, "host-2.example"))
		})
	}
}

// TestStreamThatRefusesItsFirstRing is the same without Envoy: a second stream under the id of a
// node with eager chains asks for the ring, as for a certificate, and refuses it.
func TestStreamThatRefusesItsFirstRing(t *testing.T) {
	s := newStage(t, setup{})
	s.fleetOf(2)
	s.awaitPhase("steady", 2)
	a := s.clients()
	before := s.sight()
	second := s.scripted("edge-1", refuse("not a certificate"))
	s.eventually(func() error {
		if second.toldOfNone() == 0 {
			return errNotYet
		}
		return nil
	})
	if after := s.sight(); after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
	s.mustRun("rotate", "--wait", "--timeout", "10s", "--why", "test")
	if r := s.lockstep("status"); r.code != 0 {
		t.Errorf("status: exit code %d: %s", r.code, r.err)
	}
	a.awaitKeyInUse()
	a.cross("a rotation")
}

// onDemand starts an Envoy with one eager host and all others on demand.
func (s *stage) onDemand(name string, sds bool) *envoy {
	s.t.Helper()
	e := s.place(name)
	config, err := fleet.OnDemand{
		Node: name, XDS: s.plane.XDS, Admin: e.admin, Listen: e.addr,
		Upstream: s.upstream.Addr, Host: s.hosts[0], SDS: sds,
	}.Config()
	s.ok(err)
	s.run(e, config)
	return e
}

// attack sends the ring's name as SNI, in full and breaking off in the middle, several at once, and
// demands quick failures and that nothing changed.
func (s *stage) attack(e *envoy) {
	s.t.Helper()
	before, asked := s.sight(), s.secrets("asked")
	failed := make(chan error)
	for range 3 {
		go func() { failed <- s.reaches(e, keysource.RingName("default")) }()
		go func() { failed <- s.breaksOff(e, keysource.RingName("default")) }()
	}
	began := time.Now()
	for range 6 {
		if err := <-failed; err == nil {
			s.t.Error("a handshake for the ring's name succeeded")
		}
	}
	if took := time.Since(began); took > 2*time.Second {
		s.t.Errorf("the clients hung for %s", took)
	}
	if s.secrets("asked") == asked {
		s.t.Error("Envoy did not ask for the ring as a certificate: nothing was tried")
	}
	s.eventually(func() error { // Envoy's last streams may be on their way out
		if after := s.sight(); after != before {
			return fmt.Errorf("before:\n%s\nafter:\n%s", before, after)
		}
		return nil
	})
}

// breaksOff goes away right after its first message.
func (s *stage) breaksOff(e *envoy, sni string) error {
	raw, err := net.DialTimeout("tcp", e.addr, time.Second)
	if err != nil {
		return err
	}
	defer raw.Close()
	conn := tls.Client(&deafConn{raw}, &tls.Config{ServerName: sni, InsecureSkipVerify: true})
	return conn.HandshakeContext(s.ctx)
}

// deafConn sends, and then hears nothing but the end.
type deafConn struct{ net.Conn }

func (deafConn) Read([]byte) (int, error) { return 0, net.ErrClosed }

// sight is all that an operator sees, without what counts time.
func (s *stage) sight() string {
	s.t.Helper()
	sc := s.scope()
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s rotation %d %v %+v\n", sc.Phase, sc.Version, sc.Rotation, sc.Keys, sc.Nodes)
	for _, n := range s.nodes() {
		slices.SortFunc(n.Secrets, func(x, y struct{ Name, Version, State, Refused string }) int {
			return strings.Compare(x.Name, y.Name)
		})
		fmt.Fprintf(&b, "%s %s %v\n", n.Node, n.State, n.Secrets)
	}
	for _, l := range s.history() {
		fmt.Fprintf(&b, "%d %s %s %s\n", l.Rotation, l.What, l.Key, l.By)
	}
	return b.String()
}
