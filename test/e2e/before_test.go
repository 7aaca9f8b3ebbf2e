package e2e

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-tls/lockstep/test/fleet"
)

// versionBefore is the last commit whose lockstepd knows no marks on versions, and believes every
// ACK.
const versionBefore = "ff7983c"

// before builds the programs of the version before.
func before(t *testing.T) (bin string) {
	t.Helper()
	bin, err := fleet.BuildBefore(t.Context(), versionBefore, "lockstepd", "lockstep", "lockstep-edge")
	if errors.Is(err, fleet.ErrNoCommit) {
		t.Skipf("the version before cannot be built: %v (git fetch --unshallow)", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return bin
}

// TestReplicasOfTheVersionBefore share a store with one of this version, whichever was there first
// (the name of the subtest). Envoys move between them in rotations and a burn, also with a
// certificate that they refuse. No ticket is lost, no burnt one resumes, and each reads what the
// other wrote.
func TestReplicasOfTheVersionBefore(t *testing.T) {
	t.Parallel() // it mostly waits
	old := before(t)
	atOnce(t, []string{"before", "now"}, func(t *testing.T, first string) {
		r, url, _ := onRedis(t,
			setup{scopes: fmt.Sprintf("  default: {ticket_lifetime: %s, node_lease: 10s}\n", lifetime)})
		bins := map[string]string{"before": old, "now": bin}
		names := []string{"before", "now"}
		if first == "now" {
			slices.Reverse(names)
		}
		planes := map[string]*fleet.Lockstepd{}
		for _, name := range names {
			var more []string
			if name == "now" {
				more = []string{"--canary", "0s"} // the version before has none, either
			}
			planes[name] = r.joinIn(r.fleet, fleet.Lockstepd{Bin: bins[name]}, name, url, more...)
		}
		r.ask(planes[first])
		for _, h := range r.hosts {
			r.writePair(h, r.issue(h))
		}
		at := []string{"before", "now"}
		var relays []*fleet.Relay
		for i, name := range at {
			relay := r.relay(planes[name].XDS)
			relays = append(relays, relay)
			r.eagerAt(relay.Addr, fmt.Sprintf("edge-%d", i+1), r.hosts)
		}
		r.awaitReady()
		both := func() {
			t.Helper()
			for _, p := range planes {
				r.ask(p)
				r.eventuallyWithin(30*time.Second, func() error {
					sc, err := r.scopeOf("default")
					if err == nil && (sc.Phase != "steady" || sc.Nodes.Accepted != 2) {
						err = fmt.Errorf("%s: %s, %+v, blocked by %v", p.Name(), sc.Phase, sc.Nodes, sc.BlockedBy)
					}
					return err
				})
				if said := r.complaints(p); said != "" {
					t.Errorf("%s complains: %s", p.Name(), said)
				}
			}
		}
		move := func(i int) {
			t.Helper()
			if at[i] == "now" {
				at[i] = "before"
			} else {
				at[i] = "now"
			}
			r.ok(relays[i].Forward(planes[at[i]].XDS))
			relays[i].Cut()
		}
		both()
		// The version before knows no proof of a replica. The new one can ask it, and refuses it.
		for name, p := range planes {
			r.ask(p)
			r.eventually(func() error {
				var nodes struct{ Silent []string }
				if err := r.show(&nodes, "nodes"); err != nil {
					return err
				}
				refused := len(nodes.Silent) == 1 && strings.Contains(nodes.Silent[0], "until it is upgraded")
				if name == "now" && len(nodes.Silent) > 0 || name == "before" && !refused {
					return fmt.Errorf("%s: silent are %v", name, nodes.Silent)
				}
				return nil
			})
		}
		a := r.clients()
		for round := range 4 { // each node is at each version, and both are at one
			r.ask(planes[names[round%2]])
			r.mustRunInTime("rotate", "--wait", "--timeout", "40s")
			a.awaitKeyInUse()
			a.cross("a rotation")
			move(round % 2)
			both()
			a.awaitKeyInUse()
			a.cross("a move")
		}

		// Keys are burnt by one, and then by the other, with nodes at both.
		a.stop()
		for _, name := range names {
			var tickets []issued
			for _, e := range r.envoys {
				for _, v := range bothVersions {
					tickets = append(tickets, issued{r.session(e, r.hosts[0], v), r.hosts[0], e.name})
				}
			}
			r.ask(planes[name])
			r.mustRunInTime("burn", "--yes", "--wait", "--timeout", "40s")
			for _, is := range tickets {
				for _, e := range r.envoys {
					r.eventually(func() error {
						if did, err := r.again(e, is.host, is.Version, is.Session); err != nil || did {
							return fmt.Errorf("after the burn by %s: a burnt ticket of %s on %s: resumed %v, %v",
								name, is.from, e.name, did, err)
						}
						return nil
					})
				}
			}
			move(0)
			both()
		}

		// A certificate is refused at the new one; its roster goes on to be read by the old one.
		for i := range at {
			if at[i] == "before" {
				move(i)
			}
		}
		both()
		b := r.clientsOf(r.hosts[1:])
		r.writePair(r.hosts[0], r.issueOdd(r.hosts[0]))
		relays[0].Spoil(r.hosts[0], true) // at one node no remedy helps
		r.ask(planes["now"])
		r.eventually(func() error {
			if out := r.lockstep("nodes").out; strings.Count(out, "refusing") < 2 {
				return errors.New(out)
			}
			return nil
		})
		time.Sleep(12 * time.Second) // a roster is written again within 10 s
		b.check("a refusal")
		for _, words := range []string{"not a record", "another version", "cannot be read"} {
			for _, p := range planes {
				if log := p.LogTail(1000); strings.Contains(log, words) {
					t.Errorf("%s says %q:\n%s", p.Name(), words, log)
				}
			}
		}
		relays[0].Spoil(r.hosts[0], false)
		r.writePair(r.hosts[0], r.issue(r.hosts[0]))
		for _, e := range r.envoys {
			r.eventually(func() error { return r.trusted(e, r.hosts[0]) })
		}
		both()
		r.ask(planes["before"])
		r.mustRunInTime("rotate", "--wait", "--timeout", "40s")
		both()
		b.awaitKeyInUse()
		b.cross("the end")
		for _, l := range r.history() {
			if len(l.LeftBehind) > 0 {
				t.Errorf("left behind: %+v", l)
			}
		}
	})
}

// clientsOf are clients of these hosts only.
func (s *stage) clientsOf(hosts []string) *account {
	s.t.Helper()
	all := s.hosts
	defer func() { s.hosts = all }()
	s.hosts = hosts
	return s.clients()
}

// TestNodesOfTheVersionBefore: Envoys with an old bootstrap and edges of both versions, at a
// lockstepd of each.
func TestNodesOfTheVersionBefore(t *testing.T) {
	t.Parallel() // it mostly waits
	old := before(t)
	planes := map[string]string{"now": bin, "before": old}
	atOnce(t, []string{"before", "now"}, func(t *testing.T, version string) {
		s := newStage(t, setup{later: true})
		s.moreTime(2 * time.Minute)
		s.plane.Bin = planes[version]
		s.start()
		s.edgeOf(old, "edge-old", "")
		s.edgeOf(bin, "edge-new", "")
		edges := slices.Clone(s.envoys)
		relay := s.relay(s.plane.XDS)
		for kind, with := range map[string]string{"old": old, "new": bin} {
			// the bootstrap of each version
			e := s.place("envoy-" + kind)
			// the bootstrap of the version before names no socket
			args := append([]string{"bootstrap", "envoy", "--node", e.name, "--xds", relay.Addr, "--admin", e.admin,
				"--upstream", s.upstream.Addr}, s.eagerFlags(e, s.hosts)...)
			config, err := s.fleet.Run(s.ctx, filepath.Join(with, "lockstep"), args...)
			s.ok(err)
			if has := strings.Contains(string(config), "x-lockstep-kind"); has != (kind == "new") {
				t.Errorf("the %s bootstrap says what its ring's stream asks for: %v", kind, has)
			}
			s.run(e, config)
		}
		envoys := s.envoys[2:]
		s.awaitReady()
		s.awaitPhase("steady", 4)
		ours, theirs := s.clients(edges...), s.clients(envoys...)
		for range 2 {
			s.mustRunInTime("rotate", "--wait", "--timeout", "30s")
			ours.awaitKeyInUse()
			theirs.awaitKeyInUse()
			ours.cross("a rotation")
			theirs.cross("a rotation")
		}
		s.ok(s.plane.Kill())
		s.ok(s.plane.Restart())
		s.ok(s.plane.Ready(s.ctx))
		s.awaitPhase("steady", 4)
		ours.cross("a restart of lockstepd")
		theirs.cross("a restart of lockstepd")
		ours.stop()
		theirs.stop()
		s.mustRunInTime("burn", "--yes", "--wait", "--timeout", "40s")
		s.awaitPhase("steady", 4)
		s.clients(edges...).cross("a burn")
		s.clients(envoys...).cross("a burn")
		if r := s.lockstep("status"); r.code != 0 {
			t.Errorf("status: exit code %d: %s", r.code, r.err)
		}
	})
}
