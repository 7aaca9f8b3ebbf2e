package e2e

import (
	"strings"
	"testing"
)

// verify is the command line that probes Envoys.
func (s *stage) verify(envoys ...*envoy) []string {
	args := []string{"verify", "--sni", s.hosts[0], "--ca", s.path("ca.pem")}
	for _, e := range envoys {
		args = append(args, e.addr)
	}
	return args
}

// TestVerifyShowsWhoShares: the probe's matrix over Envoys of one ring, and with one of another.
func TestVerifyShowsWhoShares(t *testing.T) {
	s := newStage(t, setup{scopes: "  default: {}\n  partners: {}\n"})
	s.fleetOf(3)
	out := s.mustRun(s.verify(s.envoys...)...)
	for _, version := range []string{"TLS 1.2", "TLS 1.3"} {
		if !strings.Contains(out, version+": 9 of 9 sessions resumed") {
			t.Errorf("no full matrix of %s: %s", version, out)
		}
	}
	for _, e := range s.envoys {
		if !strings.Contains(out, e.addr) {
			t.Errorf("%s is not in the matrix: %s", e.addr, out)
		}
	}
	stranger := s.envoy("stranger", "--scope", "partners")
	s.awaitReady(stranger)
	s.mustFail(1, "8 of 18 sessions did not resume", s.verify(s.envoys[0], s.envoys[1], stranger)...)
	s.mustFail(1, "did not resume", s.verify(s.envoys[0], stranger)...)
	s.mustRun(s.verify(stranger)...)
}
