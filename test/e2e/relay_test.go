package e2e

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lockstep-tls/lockstep/test/fleet"
)

// relay starts a relay in front of a control plane; it ends with the test.
func (s *stage) relay(to string) *fleet.Relay {
	s.t.Helper()
	r, err := fleet.NewRelay(to, s.ca)
	s.ok(err)
	s.t.Cleanup(r.Close)
	return r
}

// atOnce runs a subtest of each name at the same time, whatever -parallel says: they mostly wait.
func atOnce(t *testing.T, names []string, test func(t *testing.T, name string)) {
	var all sync.WaitGroup
	for _, name := range names {
		all.Go(func() { t.Run(name, func(t *testing.T) { test(t, name) }) })
	}
	all.Wait()
}

// mustRunInTime is mustRun, tried again while the change cannot be written down: the disk of a busy
// machine may be that slow.
func (s *stage) mustRunInTime(args ...string) (out string) {
	s.t.Helper()
	s.eventuallyWithin(time.Minute, func() error {
		r := s.lockstep(args...)
		switch {
		case r.code == 0:
			out = r.out
			return nil
		case s.mayAskAgain(r):
		case !strings.Contains(r.err, "no answer"):
			s.t.Fatalf("lockstep %v: exit code %d: %s%s", args, r.code, r.out, r.err)
		}
		return errors.New(r.err)
	})
	return out
}

// issueOdd issues a certificate that lockstepd takes for good, and that Envoys behind a relay
// refuse.
func (s *stage) issueOdd(names ...string) fleet.Pair {
	s.t.Helper()
	p, err := s.ca.Issue(fleet.Leaf{Names: names, Organization: fleet.Odd})
	s.ok(err)
	return p
}

// issueMustStaple issues a certificate that Envoy refuses without a staple.
func (s *stage) issueMustStaple(names ...string) fleet.Pair {
	s.t.Helper()
	p, err := s.ca.Issue(fleet.Leaf{Names: names, MustStaple: true})
	s.ok(err)
	return p
}

// moreTime gives a test that does much more time than patience.
func (s *stage) moreTime(d time.Duration) {
	ctx, cancel := context.WithTimeout(s.t.Context(), max(d, patience))
	s.t.Cleanup(cancel)
	s.ctx = ctx
}

// bootstrap is what the CLI prints for an Envoy that asks elsewhere than at stage.plane.
func (s *stage) bootstrap(e *envoy, xds string, more ...string) []byte {
	s.t.Helper()
	args := []string{
		"bootstrap", "envoy", "--node", e.name, "--xds", xds, "--admin", e.admin, "--upstream", s.upstream.Addr,
	}
	config, err := s.fleet.Run(s.ctx, filepath.Join(bin, "lockstep"), append(args, more...)...)
	s.ok(err)
	return config
}

// eagerFlags are those of bootstrap for an Envoy with a chain for each host, in that order.
func (s *stage) eagerFlags(e *envoy, hosts []string) []string {
	args := []string{"--listen", e.addr, "--ticket-lifetime", lifetime.String()}
	for _, h := range hosts {
		args = append(args, "--host", h)
	}
	return args
}

// eagerAt starts such an Envoy, with flags of its own.
func (s *stage) eagerAt(xds, name string, hosts []string, flags ...string) *envoy {
	s.t.Helper()
	e := s.place(name)
	s.run(e, s.bootstrap(e, xds, s.eagerFlags(e, hosts)...), flags...)
	return e
}

// hybridVia starts an Envoy whose listener comes through a relay, with flags of its own.
func (s *stage) hybridVia(r *fleet.Relay, name, addr string, flags ...string) *envoy {
	s.t.Helper()
	e := s.place(name)
	e.addr = addr
	s.run(e, s.bootstrap(e, r.Addr, "--mode", "hybrid"),
		append(flags, "--drain-time-s", "1", "--parent-shutdown-time-s", "2")...)
	return e
}

// hotFlags are those of an Envoy that takes part in hot restarts. Its admin port makes its number
// its own.
func hotFlags(t *testing.T, admin string) []string {
	t.Helper()
	_, port, err := net.SplitHostPort(admin)
	if err != nil {
		t.Fatal(err)
	}
	return []string{"--base-id", port, "--drain-time-s", "1", "--parent-shutdown-time-s", "2"}
}
