package e2e

import (
	"fmt"
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
