package e2e

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/lockstep-tls/lockstep/test/fleet"
)

// placesVariable, if it is set, has every place tried: E2E_PLACES=all.
const placesVariable = "E2E_PLACES"

// badKinds are the two kinds of certificates that an Envoy refuses: lockstepd may know one for bad,
// and cannot know the other.
var badKinds = []struct {
	name string
	pair func(s *stage, names ...string) fleet.Pair
}{{"at the border", (*stage).issueMustStaple}, {"behind the border", (*stage).issueOdd}}

// TestAnEagerNodeStartsWithOneBadHost: whatever place the bad one has among its chains, all others
// serve. The bad one fails with a certificate error, and serves when it is mended, without a
// restart.
func TestAnEagerNodeStartsWithOneBadHost(t *testing.T) {
	t.Parallel()
	const hosts = 64
	seed := uint64(time.Now().UnixNano() % 1e9)
	r := rand.New(rand.NewPCG(seed, 0))
	places := []int{0, hosts / 2, hosts - 1}
	for len(places) < 6 {
		if p := r.IntN(hosts); !slices.Contains(places, p) {
			places = append(places, p)
		}
	}
	if os.Getenv(placesVariable) == "all" {
		places = nil
		for p := range hosts {
			places = append(places, p)
		}
	}
	t.Logf("seed %d, places %v", seed, places)
	atOnce(t, []string{badKinds[0].name, badKinds[1].name}, func(t *testing.T, name string) {
		kind := badKinds[0]
		if name != kind.name {
			kind = badKinds[1]
		}
		s := newStage(t, setup{hosts: hosts - 1})
		s.moreTime(time.Duration(len(places)) * 30 * time.Second)
		relay := s.relay(s.plane.XDS)
		for _, place := range places {
			bad := fmt.Sprintf("bad-%d.example", place)
			s.ok(fleet.WriteHost(s.certs, bad, kind.pair(s, bad)))
			s.startsWith(relay, slices.Insert(slices.Clone(s.hosts), place, bad), []string{bad},
				"--concurrency", strconv.Itoa(1+place%2))
		}
	})
}

// TestAnEagerNodeStartsWithTenBadHosts of both kinds, also where they are the first ones, or all
// but one.
func TestAnEagerNodeStartsWithTenBadHosts(t *testing.T) {
	t.Parallel()
	s := newStage(t, setup{hosts: 54})
	s.moreTime(3 * time.Minute)
	relay := s.relay(s.plane.XDS)
	for round, place := range []func(i int) int{
		func(i int) int { return 6 * i },
		func(i int) int { return i },
	} {
		all := slices.Clone(s.hosts)
		var bad []string
		for i := range 10 {
			host := fmt.Sprintf("bad-%d-%d.example", round, i)
			bad = append(bad, host)
			s.ok(fleet.WriteHost(s.certs, host, badKinds[i%2].pair(s, host)))
			all = slices.Insert(all, place(i), host)
		}
		s.startsWith(relay, all, bad)
	}
}

// startsWith starts an Envoy with these hosts, of which some are bad, and mends them.
func (s *stage) startsWith(relay *fleet.Relay, hosts, bad []string, flags ...string) {
	s.t.Helper()
	began := time.Now()
	e := s.eagerAt(relay.Addr, fmt.Sprintf("edge-%d", len(s.envoys)+1), hosts, flags...)
	s.awaitReady(e)
	up := time.Since(began)
	for _, h := range hosts {
		if !slices.Contains(bad, h) {
			s.eventuallyWithin(40*time.Second, func() error { return s.trusted(e, h) })
		}
	}
	served := time.Since(began)
	for _, h := range bad {
		s.eventually(func() error {
			var untrusted *tls.CertificateVerificationError
			if err := s.trusted(e, h); !errors.As(err, &untrusted) {
				return fmt.Errorf("%s, which is bad: %v, want a certificate error", h, err)
			}
			return nil
		})
	}
	accepted := func() error {
		sc, err := s.scopeOf("default")
		if err == nil && (sc.Nodes.Accepted < 1 || sc.Nodes.Refused+sc.Nodes.Stale > 0) {
			err = fmt.Errorf("%+v, blocked by %v", sc.Nodes, sc.BlockedBy)
		}
		return err
	}
	s.eventually(accepted)
	s.mustRunInTime("rotate", "--wait", "--timeout", "30s")
	key := s.scope().key("encrypt")
	for _, h := range hosts {
		for _, v := range bothVersions {
			if got := s.session(e, h, v); got == nil || got.KeyID != key {
				s.t.Errorf("%s on %s encrypts with %+v, want key %s", h, e.name, got, key)
			}
		}
	}
	began = time.Now()
	for _, h := range bad {
		s.renew(h)
	}
	for _, h := range bad {
		s.eventuallyWithin(40*time.Second, func() error { return s.trusted(e, h) })
	}
	mended := time.Since(began)
	for _, h := range hosts {
		s.ok(s.trusted(e, h))
	}
	s.eventually(accepted)
	s.t.Logf("%s: ready after %s, all good hosts after %s; %d mended in %s",
		e.name, up.Round(time.Millisecond), served.Round(time.Millisecond), len(bad), mended.Round(time.Millisecond))
	s.ok(e.Kill())
	s.mustRunInTime("exclude", e.name, "--for", "1h") // nobody waits for it any more
}

// trusted makes a full handshake and checks the certificate.
func (s *stage) trusted(e *envoy, host string) error {
	ctx, cancel := context.WithTimeout(s.ctx, 5*time.Second)
	defer cancel()
	d := tls.Dialer{Config: &tls.Config{ServerName: host, RootCAs: s.ca.Pool()}}
	conn, err := d.DialContext(ctx, "tcp", e.addr)
	if err == nil {
		conn.Close()
	}
	return err
}
