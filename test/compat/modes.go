package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/lockstep-tls/lockstep/probe"
	"github.com/lockstep-tls/lockstep/test/fleet"
)

// tlsVersions are those that clients try.
var tlsVersions = []uint16{tls.VersionTLS12, tls.VersionTLS13}

const (
	// an absent name must be refused sooner than by Envoy's timeout of 10 s
	refusedWithin = 5 * time.Second
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

// ownTickets is the note of an Envoy that gives session tickets in an on-demand chain. Others give
// none, as the configuration says.
const ownTickets = "a session that was made in the on-demand chain resumes there, " +
	"though both kinds of resumption are turned off; its ticket key is not one of lockstepd's ring"

// tryOnDemand starts an Envoy that knows no name, and asks it for one that lockstepd has, and one
// that it does not have.
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
	if _, err := s.session(ctx, n, coldHost, tls.VersionTLS13); err != nil {
		return no("%v", err), ctx.Err()
	}
	first := time.Since(began)
	odd, err := s.cold(ctx, n, coldHost, laterHost)
	if err != nil {
		return no("%v", err), ctx.Err()
	}
	refusal, err := s.absent(ctx, n)
	if err != nil {
		return no("%v", err), ctx.Err()
	}
	if _, err := s.session(ctx, n, coldHost, tls.VersionTLS13); err != nil {
		return no("after an absent name: %v", err), ctx.Err()
	}
	c := cell{OK: true, Says: fmt.Sprintf("yes: fetched and served in %d ms, absent name refused in %d ms",
		first.Milliseconds(), refusal.Milliseconds())}
	if odd {
		c.Why = ownTickets
		outlives, err := s.outlivesBurn(ctx, n, coldHost)
		if err != nil {
			return cell{}, err
		}
		if outlives {
			c.Why += "; it also resumes after lockstep burn"
		}
	}
	return c, nil
}

// outlivesBurn reports whether a session resumes after all keys of the ring were replaced.
func (s *stage) outlivesBurn(ctx context.Context, n *node, host string) (bool, error) {
	made, err := s.session(ctx, n, host, tls.VersionTLS13)
	if err != nil {
		return false, err
	}
	if _, err := s.lockstep(ctx, "burn", "--yes", "--why", "compat"); err != nil {
		return false, err
	}
	return s.offered(ctx, n, host, made)
}

// cold checks a host that is served on demand, and reports whether a session that is made there
// resumes there. It is an error if such a session resumes at another host, or has a key of the
// ring.
func (s *stage) cold(ctx context.Context, n *node, host string, others ...string) (resumes bool, err error) {
	for _, v := range tlsVersions {
		made, err := s.session(ctx, n, host, v)
		if err != nil {
			return false, err
		}
		if made != nil {
			own, err := s.inRing(ctx, made)
			if err != nil {
				return false, err
			}
			if own {
				return false, fmt.Errorf("a session of %s, which is served on demand, has a key of the ring", host)
			}
		}
		for _, at := range append(others, host) {
			resumed, err := s.offered(ctx, n, at, made)
			if err != nil {
				return false, err
			}
			if resumed && at != host {
				return false, fmt.Errorf("a session of %s resumed at %s", host, at)
			}
			resumes = resumes || resumed
		}
	}
	return resumes, nil
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
	if err := s.eager(ctx, n, eagerHost, coldHost); err != nil {
		return no("%v", err), ctx.Err()
	}
	odd := false
	for _, host := range []string{coldHost, laterHost} {
		resumes, err := s.cold(ctx, n, host, eagerHost)
		if err != nil {
			return no("%v", err), ctx.Err()
		}
		odd = odd || resumes
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
		return errors.Join(s.eager(ctx, n, laterHost, coldHost), s.eager(ctx, n, eagerHost, laterHost))
	})
	if err != nil {
		return no("%s was pinned: %v %s", laterHost, err, complaint(n.LogTail(1000))), ctx.Err()
	}
	c := cell{OK: true, Says: fmt.Sprintf("yes: sessions resume, those of a pinned host after %d ms",
		time.Since(began).Milliseconds())}
	if odd {
		c.Why = ownTickets
	}
	return c, nil
}

// eager returns nil if sessions of the host have a key of the ring and resume there, and not at
// the other host.
func (s *stage) eager(ctx context.Context, n *node, host, other string) error {
	for _, v := range tlsVersions {
		made, err := s.session(ctx, n, host, v)
		if err != nil {
			return err
		}
		if made == nil {
			return fmt.Errorf("%s: %s gave no session", tls.VersionName(v), host)
		}
		own, err := s.inRing(ctx, made)
		if err != nil {
			return err
		}
		if !own {
			return fmt.Errorf("%s: a session of %s has no key of the ring", tls.VersionName(v), host)
		}
		for at, should := range map[string]bool{host: true, other: false} {
			resumed, err := s.offered(ctx, n, at, made)
			if err != nil {
				return err
			}
			if resumed != should {
				return fmt.Errorf("%s: a session of %s resumed at %s: %v; it should: %v",
					tls.VersionName(v), host, at, resumed, should)
			}
		}
	}
	return nil
}

// inRing reports whether a key of the ring made the session's ticket.
func (s *stage) inRing(ctx context.Context, made *probe.Session) (bool, error) {
	keys, err := s.ring(ctx)
	return slices.ContainsFunc(keys, func(k key) bool { return k.ID == made.KeyID }), err
}

// session makes a full handshake, which checks the certificate. The session is nil if the Envoy
// gave no ticket.
func (s *stage) session(ctx context.Context, n *node, host string, version uint16) (*probe.Session, error) {
	r, err := probe.Dial(ctx, n.addr, probe.Config{SNI: host, RootCAs: s.ca.Pool(), Versions: []uint16{version}}, nil)
	return r.Session, err
}

// offered reports whether a session resumes at a host. One that is nil does not.
func (s *stage) offered(ctx context.Context, n *node, host string, made *probe.Session) (resumed bool, err error) {
	if made == nil {
		return false, nil
	}
	r, err := probe.Dial(ctx, n.addr,
		probe.Config{SNI: host, RootCAs: s.ca.Pool(), Versions: []uint16{made.Version}}, made)
	return r.Resumed, err
}
