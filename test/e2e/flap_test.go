package e2e

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/lockstep-tls/lockstep/test/fleet"
)

// TestACertificateThatFlaps goes bad and is mended again and again, faster than a node answers.
// What is there in the end is served, the other hosts never suffer, and rotations go on.
func TestACertificateThatFlaps(t *testing.T) {
	t.Parallel()
	for _, last := range []bool{false, true} {
		t.Run(fmt.Sprintf("the last one: %v", last), func(t *testing.T) {
			s := newStage(t, setup{hosts: 3, later: true})
			addr := s.listen("  hosts: [host-1.example, host-2.example, host-3.example]\n")
			// else one node would take the harm for all
			s.plane.Args = append(s.plane.Args, "--canary", "0s")
			s.start()
			bad := s.hosts[0]
			if last {
				bad = s.hosts[2]
			}
			good := slices.DeleteFunc(slices.Clone(s.hosts), func(h string) bool { return h == bad })
			relays := []*fleet.Relay{s.relay(s.plane.XDS), s.relay(s.plane.XDS)}
			s.hybridVia(relays[0], "edge-1", addr, "--concurrency", "2")
			s.eagerAt(relays[1].Addr, "edge-2", s.hosts)
			s.awaitReady()
			s.awaitPhase("steady", 2)
			before := s.hosts
			s.hosts = good
			a := s.clients()
			s.hosts = before
			var p fleet.Pair
			for round, pause := range []time.Duration{0, time.Millisecond, 10 * time.Millisecond, 40 * time.Millisecond,
				150 * time.Millisecond, 400 * time.Millisecond} {
				for range 3 {
					s.ok(fleet.WriteHost(s.certs, bad, s.issueOdd(bad)))
					time.Sleep(pause)
					p = s.renew(bad)
					time.Sleep(pause)
				}
				if round%2 == 0 {
					s.mustRunInTime("rotate", "--wait", "--timeout", "30s", "--why", "it flaps")
				}
				a.check(pause.String())
			}
			for _, e := range s.envoys {
				s.eventually(func() error { return s.serving(e, bad, p) })
			}
			s.awaitPhase("steady", 2)
			a.awaitKeyInUse()
			a.cross("it was mended for good")

			// It ends with a bad one: the last good one is served on.
			for range 3 {
				p = s.renew(bad)
				for _, e := range s.envoys {
					s.eventually(func() error { return s.serving(e, bad, p) })
				}
				s.ok(fleet.WriteHost(s.certs, bad, s.issueOdd(bad)))
				time.Sleep(10 * time.Millisecond)
			}
			s.eventually(func() error {
				for _, e := range s.envoys {
					if state := s.certState(e.name, bad); state != "refused" {
						return fmt.Errorf("%s: %s is shown as %q, want refused", e.name, bad, state)
					}
				}
				return nil
			})
			s.mustRunInTime("rotate", "--wait", "--timeout", "30s", "--why", "it is bad")
			for _, e := range s.envoys {
				s.ok(s.serving(e, bad, p))
			}
			a.awaitKeyInUse()
			a.cross("it stays bad")
			for i, r := range relays {
				// Each change costs a node few responses: the bad one and its cure, the ring and
				// perhaps the listener after it.
				if n := r.Count(); n.Responses > 150 {
					t.Errorf("edge-%d was sent %+v", i+1, n)
				} else {
					t.Logf("edge-%d: %+v", i+1, n)
				}
			}
		})
	}
}

// certState is the state in which a node has the certificate of a host, by its own name or its
// chain's, as nodes shows it; "" if nothing is wrong with it.
func (s *stage) certState(node, host string) string {
	s.t.Helper()
	for _, n := range s.nodes() {
		for _, secret := range n.Secrets {
			if n.Node == node && (secret.Name == host || secret.Name == "chain:"+host) {
				return secret.State
			}
		}
	}
	return ""
}

// TestAHostLeavesTheListenerWhileItsCertificateIsRefused, and comes back while it still is.
func TestAHostLeavesTheListenerWhileItsCertificateIsRefused(t *testing.T) {
	t.Parallel()
	s := newStage(t, setup{hosts: 2, later: true})
	addr := s.listen("  hosts: [host-2.example]\n")
	// else one node would take the harm for all
	s.plane.Args = append(s.plane.Args, "--canary", "0s")
	s.start()
	const bad = "host-1.example" // its chain comes first
	s.mustRun("host", "pin", bad)
	relay := s.relay(s.plane.XDS)
	e := s.hybridVia(relay, "edge-1", addr)
	s.eagerAt(s.plane.XDS, "edge-2", []string{"host-2.example"})
	s.awaitReady()
	s.listed(bad, "eager", 1)
	s.awaitPhase("steady", 2)
	s.hosts = []string{"host-2.example"}
	a := s.clients()
	for round := range 3 {
		s.renew(bad)
		s.eventually(func() error { return s.trusted(e, bad) })
		if round == 1 { // no remedy helps: it is refused when the host leaves
			relay.Spoil(bad, true)
		}
		s.ok(fleet.WriteHost(s.certs, bad, s.issueOdd(bad)))
		s.eventually(func() error {
			if state := s.certState("edge-1", bad); state != "refused" {
				return fmt.Errorf("%s is shown as %q", bad, state)
			}
			return nil
		})
		s.mustRun("host", "unpin", bad)
		s.listed(bad, "", 0)
		s.mustRunInTime("rotate", "--wait", "--timeout", "30s", "--why", "it left")
		a.awaitKeyInUse()
		a.cross("the host left")
		s.eventually(func() error { // it is on demand now: its handshakes fail at once
			began := time.Now()
			if err := s.trusted(e, bad); err == nil || time.Since(began) > 3*time.Second {
				return fmt.Errorf("%v after %s", err, time.Since(began))
			}
			return nil
		})
		relay.Spoil(bad, false)
		s.mustRun("host", "pin", bad) // and is bad still
		s.listed(bad, "eager", 1)
		s.mustRunInTime("rotate", "--wait", "--timeout", "30s", "--why", "it came")
		a.awaitKeyInUse()
		a.cross("the host came back, bad")
		p := s.renew(bad)
		s.eventually(func() error { return s.serving(e, bad, p) })
		s.eventually(func() error {
			if !s.resumes(e, bad) {
				return errNotYet
			}
			return nil
		})
	}
	if r := s.lockstep("status"); r.code != 0 {
		t.Errorf("status: exit code %d: %s", r.code, r.err)
	}
}

// TestOnDemandABadCertificateHurtsItsOwnNameOnly: handshakes for it fail at once, all others are
// served, and it is served when it is mended.
func TestOnDemandABadCertificateHurtsItsOwnNameOnly(t *testing.T) {
	t.Parallel()
	for _, kind := range badKinds {
		t.Run(kind.name, func(t *testing.T) {
			s := newStage(t, setup{hosts: 6, later: true})
			addr := s.listen("  hosts: [host-1.example]\n")
			// else one node would take the harm for all
			s.plane.Args = append(s.plane.Args, "--canary", "0s")
			s.start()
			relay := s.relay(s.plane.XDS)
			s.hybridVia(relay, "edge-1", addr, "--concurrency", "2")
			pure := s.place("edge-2")
			s.run(pure, s.bootstrap(pure, relay.Addr, "--mode", "on-demand", "--listen", pure.addr))
			s.awaitReady()
			for round, bad := range []string{"host-3.example", "host-5.example"} {
				known := round == 1 // the nodes hold a good one
				var last fleet.Pair
				if known {
					last = s.renew(bad)
					for _, e := range s.envoys {
						s.eventually(func() error { return s.serving(e, bad, last) })
					}
				}
				s.ok(fleet.WriteHost(s.certs, bad, kind.pair(s, bad)))
				time.Sleep(200 * time.Millisecond)
				for range 10 {
					for _, e := range s.envoys {
						began := time.Now()
						err := s.trusted(e, bad)
						if took := time.Since(began); took > 2*time.Second || !known && err == nil {
							t.Errorf("round %d, %s: %s, which is bad: %v after %s", round, e.name, bad, err, took)
						}
						if known && err != nil {
							t.Errorf("%s lost the good certificate of %s: %v", e.name, bad, err)
						}
						for _, h := range s.hosts {
							if h != bad {
								s.ok(s.trusted(e, h))
							}
						}
					}
				}
				s.mustRunInTime("rotate", "--wait", "--timeout", "30s")
				p := s.renew(bad)
				for _, e := range s.envoys {
					began := time.Now()
					s.eventually(func() error { return s.serving(e, bad, p) })
					t.Logf("%s: %s is served %s after it was mended",
						e.name, bad, time.Since(began).Round(time.Millisecond))
				}
				for _, e := range s.envoys {
					if state := s.certState(e.name, bad); state != "" {
						t.Errorf("%s: %s is still shown as %s", e.name, bad, state)
					}
				}
			}
		})
	}
}
