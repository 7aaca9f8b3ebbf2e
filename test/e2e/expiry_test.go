package e2e

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-tls/lockstep/test/fleet"
)

// TestAStoredCertificateThatEndsSoonIsSeenWithoutANode: in the status and in the metrics, after a
// restart, too. One that was not renewed in time is a problem, and one of the directory likewise.
func TestAStoredCertificateThatEndsSoonIsSeenWithoutANode(t *testing.T) {
	t.Parallel()
	s := newStage(t, setup{hosts: 1})
	put := func(name string, valid time.Duration) {
		t.Helper()
		p, err := s.ca.Issue(fleet.Leaf{Names: []string{name}, Valid: valid})
		s.ok(err)
		s.writePair(name, p)
	}
	put("three-days.example", 72*time.Hour) // of four: it is not due for renewal
	s.ok(fleet.WriteHost(s.certs, s.hosts[0], s.issueFor(60*24*time.Hour, s.hosts[0])))
	type view struct {
		Certificates struct {
			Nearest []struct{ Name, Source, State string }
		}
		Degraded []string
	}
	listed := func(want ...string) {
		t.Helper()
		s.eventually(func() error {
			var st view
			if err := s.show(&st, "status"); err != nil {
				return err
			}
			var got []string
			for _, n := range st.Certificates.Nearest {
				got = append(got, n.Name+" "+n.Source+" "+n.State)
			}
			if fmt.Sprint(got) != fmt.Sprint(want) {
				return fmt.Errorf("the nearest ends are %v, want %v", got, want)
			}
			return nil
		})
	}
	fresh := "three-days.example store good"
	listed(fresh, s.hosts[0]+" directory good")
	if r := s.lockstep("status"); r.code != 0 || !strings.Contains(r.out, "ENDS NEXT") {
		t.Errorf("status: exit code %d: %s%s", r.code, r.out, r.err)
	}
	for _, series := range []string{
		"lockstep_certificate_earliest_expiry_seconds",
		`lockstep_certificate_expiry_seconds{name="three-days.example",source="store"}`,
	} {
		if v := s.metric(series); v < 71*3600 || v > 72*3600 {
			t.Errorf("%s: %v", series, v)
		}
	}
	put("late.example", time.Hour) // of 25
	late := "late.example store urgent"
	listed(late, fresh, s.hosts[0]+" directory good")
	s.mustFail(3, "the first of them is late.example (store)", "status")
	if v := s.metric(`lockstep_certificates_near_end{state="urgent"}`); v != 1 {
		t.Errorf("urgent: %v", v)
	}
	s.ok(s.plane.Kill())
	s.ok(s.plane.Restart())
	s.ok(s.plane.Ready(s.ctx))
	listed(late, fresh, s.hosts[0]+" directory good")
	put("late.example", 60*24*time.Hour)
	listed(fresh, s.hosts[0]+" directory good", "late.example store good")
	s.eventually(func() error {
		if r := s.lockstep("status"); r.code != 0 {
			return fmt.Errorf("status: exit code %d: %s", r.code, r.err)
		}
		return nil
	})
}

// issueFor issues a certificate that is good for so long.
func (s *stage) issueFor(valid time.Duration, names ...string) fleet.Pair {
	s.t.Helper()
	p, err := s.ca.Issue(fleet.Leaf{Names: names, Valid: valid})
	s.ok(err)
	return p
}

// TestAnOwnCertificateThatEndsIsSaidAndRenewedWhileNodesAreThere: lockstepd's own mTLS certificate
// is near its end, and then expires. Both are said. Streams that are open go on. Who connects now
// is refused, and both sides say why. After `pki renew` the same processes believe each other.
func TestAnOwnCertificateThatEndsIsSaidAndRenewedWhileNodesAreThere(t *testing.T) {
	t.Parallel()
	s := newStage(t, setup{hosts: 1, later: true})
	dir := s.path("lockstep-pki")
	s.mustRun("pki", "init", "--dir", dir)
	s.mustRun("pki", "issue", "server", "--dir", dir, "--ip", "127.0.0.1", "--ttl", "15s")
	s.mustRun("pki", "issue", "node", "--dir", dir, "--node", "edge-1")
	s.mustRun("pki", "issue", "node", "--dir", dir, "--node", "edge-2")
	s.plane.Args = append(s.plane.Args, "--xds-cert", dir+"/server/tls.crt",
		"--xds-key", dir+"/server/tls.key", "--xds-client-ca", dir+"/ca.crt")
	s.start()
	one := s.bootstrapped("edge-1", "--pki", dir)
	s.awaitReady(one)
	says := func(p interface{ LogFile() string }, words ...string) func() error {
		return func() error {
			b, err := os.ReadFile(p.LogFile())
			for _, w := range words {
				if err == nil && !strings.Contains(string(b), w) {
					err = fmt.Errorf("%s does not say %q", p.LogFile(), w)
				}
			}
			return err
		}
	}
	status := func(code int, words string) func() error {
		return func() error {
			if r := s.lockstep("status"); r.code != code || !strings.Contains(r.err, words) {
				return fmt.Errorf("status: exit code %d: %s, want %d: %s", r.code, r.err, code, words)
			}
			return nil
		}
	}
	s.eventuallyWithin(time.Minute,
		status(3, "lockstepd's own certificate (127.0.0.1, "+dir+"/server/tls.crt) has expired"))
	s.ok(says(s.plane, `lockstepd's own certificate expires in`)())
	s.eventually(says(s.plane, `lockstepd's own certificate expired`))
	if near := s.metric(`lockstep_own_certificate_near_end{which="own"}`); near != 1 {
		t.Errorf("near its end: %v", near)
	}
	s.mustRun("rotate", "--wait", "--timeout", "20s") // over the stream that is open

	two := s.bootstrapped("edge-2", "--pki", dir)
	s.eventually(says(two, "certificate has expired"))
	s.eventually(says(s.plane, "it does not believe lockstepd's own certificate"))
	if n := s.metric(`lockstep_handshakes_failed_total{listener="xds",reason="refused_by_peer"}`); n < 1 {
		t.Errorf("%v handshakes failed", n)
	}
	s.mustRun("pki", "renew", "server", "--dir", dir, "--ttl", "1h")
	s.awaitReady(two)
	s.eventually(status(0, ""))
	if near := s.metric(`lockstep_own_certificate_near_end{which="own"}`); near != 0 {
		t.Errorf("near its end after it was renewed: %v", near)
	}
	sinceOf := func(node string) time.Time {
		t.Helper()
		var n struct{ Nodes []struct{ Since time.Time } }
		s.ok(s.show(&n, "nodes", node))
		return n.Nodes[0].Since
	}
	before := sinceOf("edge-1")
	s.mustRun("pki", "renew", "edge-1", "--dir", dir, "--new-key")
	s.mustRun("rotate", "--wait", "--timeout", "20s")
	if since := sinceOf("edge-1"); !since.Equal(before) {
		t.Error("edge-1 was connected anew")
	}
	s.ok(one.Restart()) // with the new key
	s.awaitReady(one)
	s.mustFail(2, "a CA is not renewed", "pki", "renew", "ca", "--dir", dir)
}
