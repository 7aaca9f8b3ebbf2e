package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/lockstep-tls/lockstep/probe"
	"github.com/lockstep-tls/lockstep/test/fleet"
)

// tlsVersions are those that clients try.
var tlsVersions = []uint16{tls.VersionTLS12, tls.VersionTLS13}

const (
	refusedWithin = 5 * time.Second  // an absent name must be refused sooner than by Envoy's timeout of 10 s
	pinnedWithin  = 20 * time.Second // a pinned host must resume
)

// yes is the word for a finding.
func yes(ok bool) string {
	if ok {
		return "yes"
	}
	return "no"
}

// no is a cell for what does not work.
func no(format string, a ...any) cell { return cell{Says: "no", Why: fmt.Sprintf(format, a...)} }

// tryOnDemand starts an Envoy that knows no name, and asks it for one that lockstepd has, and one that it does not have.
func tryOnDemand(ctx context.Context, s *stage, r *row) (cell, error) {
	n, err := s.envoy(ctx, r.binary, "on-demand", s.plane.XDS, "--mode", "on-demand")
	if err != nil {
		return cell{}, err
	}
	defer n.Kill()
	if words, err := n.serves(ctx); err != nil || words != "" {
		return no("%s", words), err
	}
	began := time.Now()
	for i, v := range tlsVersions {
		if err := s.resumes(ctx, n, coldHost, v, false); err != nil {
			return no("%s: %v", tls.VersionName(v), err), ctx.Err()
		}
		if i == 0 {
			r.first = time.Since(began)
		}
	}
	took, err := s.absent(ctx, n)
	if err != nil {
		return no("%v", err), ctx.Err()
	}
	if err := s.resumes(ctx, n, coldHost, tls.VersionTLS13, false); err != nil {
		return no("after an absent name: %v", err), ctx.Err()
	}
	return cell{OK: true, Says: fmt.Sprintf("yes: fetched and served in %d ms, absent name refused in %d ms", r.first.Milliseconds(), took.Milliseconds())}, nil
}

// absent asks for a name without certificate, and returns how long the refusal took.
func (s *stage) absent(ctx context.Context, n *node) (time.Duration, error) {
	began := time.Now()
	_, err := probe.Dial(ctx, n.addr, probe.Config{SNI: absentHost, Insecure: true, Timeout: refusedWithin}, nil)
	took := time.Since(began)
	switch {
	case err == nil:
		return took, errors.New("a name without certificate was served")
	case took >= refusedWithin:
		return took, fmt.Errorf("a name without certificate was not refused within %s", refusedWithin)
	}
	return took, nil
}

// tryHybrid starts an Envoy whose listener comes from lockstepd, and pins one more host.
func tryHybrid(ctx context.Context, s *stage, r *row) (cell, error) {
	n, err := s.envoy(ctx, r.binary, "hybrid", s.plane.XDS, "--mode", "hybrid")
	if err != nil {
		return cell{}, err
	}
	defer n.Kill()
	if words, err := n.serves(ctx); err != nil || words != "" {
		return no("%s", words), err
	}
	for _, v := range tlsVersions {
		for host, eager := range map[string]bool{eagerHost: true, laterHost: false, coldHost: false} {
			if err := s.resumes(ctx, n, host, v, eager); err != nil {
				return no("%s: %v", tls.VersionName(v), err), ctx.Err()
			}
		}
	}
	if _, err := s.absent(ctx, n); err != nil {
		return no("%v", err), ctx.Err()
	}
	if _, err := s.lockstep(ctx, "host", "pin", laterHost); err != nil {
		return cell{}, err
	}
	began := time.Now()
	soon, cancel := context.WithTimeout(ctx, pinnedWithin)
	defer cancel()
	err = fleet.Until(soon, func() error {
		for _, v := range tlsVersions {
			for _, host := range []string{laterHost, eagerHost} {
				if err := s.resumes(ctx, n, host, v, true); err != nil {
					return fmt.Errorf("%s: %w", tls.VersionName(v), err)
				}
			}
		}
		return nil
	})
	if err != nil {
		return no("%s was pinned: %v %s", laterHost, err, complaint(n.LogTail(1000))), ctx.Err()
	}
	return cell{OK: true, Says: fmt.Sprintf("yes: sessions resume, those of a pinned host after %d ms", time.Since(began).Milliseconds())}, nil
}

// resumes returns nil if the host is served with its certificate, and if a session that is made there resumes, or does not, as it should.
func (s *stage) resumes(ctx context.Context, n *node, host string, version uint16, should bool) error {
	c := probe.Config{SNI: host, RootCAs: s.ca.Pool(), Versions: []uint16{version}}
	r, err := probe.Dial(ctx, n.addr, c, nil)
	if err != nil {
		return err
	}
	resumed := false
	if r.Session != nil {
		again, err := probe.Dial(ctx, n.addr, c, r.Session)
		if err != nil {
			return err
		}
		resumed = again.Resumed
	}
	if resumed != should {
		return fmt.Errorf("a session of %s resumed: %v; it should: %v", host, resumed, should)
	}
	return nil
}

// agree returns an error unless the CLI refuses just those modes for each version that were seen not to work.
func agree(ctx context.Context, bin string, r report) error {
	var wrong []string
	for _, row := range r.Rows {
		for mode, c := range map[string]column{"on-demand": onDemand, "hybrid": hybrid} {
			refuses, err := refuses(ctx, bin, mode, row.Version)
			if err != nil {
				return err
			}
			if refuses == row.Cells[c].OK {
				wrong = append(wrong, fmt.Sprintf("mode %s on Envoy %s: it was seen to work: %v; lockstep bootstrap refuses it: %v", mode, row.Version, row.Cells[c].OK, refuses))
			}
		}
	}
	if len(wrong) > 0 {
		return fmt.Errorf("cmd/internal/bootstrap/versions.go is to be changed: %s", strings.Join(wrong, "; "))
	}
	return nil
}
