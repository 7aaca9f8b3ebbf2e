package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"github.com/lockstep-tls/lockstep/test/fleet"
)

// ofCertificates are faults of the directory of certificates, and of those in the store.
var ofCertificates = []fault{
	{"a certificate is renewed", func(_ context.Context, s *stage, r *rand.Rand) (outcome, error) {
		host := of(r, s.hosts)
		want := s.byAll(wants("cert-taken", "", host, ", before ", "issued by CN=Soak CA"))
		return outcome{want: want}, s.renew(host, 0)
	}},
	{"another CA issues", allowing(problems("certificate-worse"), func(
		ctx context.Context, s *stage, r *rand.Rand,
	) (outcome, error) {
		host := of(r, s.hosts)
		s.voids(host)
		ca, err := s.issuer()
		if err != nil {
			return outcome{}, err
		}
		s.issuers[host] = ca
		return s.spell(ctx, func() error { return s.renew(host, 0) },
			s.byAll(wants("cert-taken", "", host, "its session tickets end: another issuer", "warning: its CA is")),
			// The next one of that CA ends the warning.
			func() error { return s.renew(host, 0) }, s.byAll(wants("cert-taken", "", host, ", before ")))
	})},
	{"a certificate is broken", allowing(problems("certificate-problem"), func(
		ctx context.Context, s *stage, r *rand.Rand,
	) (outcome, error) {
		host := of(r, s.hosts)
		return s.spell(ctx, func() error {
			return os.WriteFile(filepath.Join(fleet.HostDir(s.certs, host), "tls.crt"), []byte("broken"), 0o600)
		}, s.byAll(wants("cert-refused", "", host, "the last good one stays")),
			func() error { return s.renew(host, 0) }, s.byAll(wants("cert-taken", "", host)))
	})},
	{"a certificate is lost and comes back", allowing(problems("stand-in"), func(
		ctx context.Context, s *stage, r *rand.Rand,
	) (outcome, error) {
		host := of(r, s.hosts)
		return s.spell(ctx, func() error { return os.Rename(fleet.HostDir(s.certs, host), s.aside(host)) },
			s.byAll(wants("cert-removed", "", host)),
			func() error { return os.Rename(s.aside(host), fleet.HostDir(s.certs, host)) },
			s.byAll(wants("cert-taken", "", host)))
	})},
	{"all certificates are lost at once", allowing(problems("certificate-problem"), func(
		ctx context.Context, s *stage, _ *rand.Rand,
	) (outcome, error) {
		var held, back []expectation
		for _, host := range s.hosts {
			held = append(held, s.byAll(wants("cert-held", "", host))...)
			back = append(back, s.byAll(wants("cert-back", "", host))...)
		}
		return s.spell(ctx, func() error { return os.Rename(s.certs, s.certs+".aside") },
			append(held, s.byAll(wants("problem", "", "certificates-held"))...),
			func() error { return os.Rename(s.certs+".aside", s.certs) },
			append(back, s.byAll(wants("problem-over", "", "certificates-held"))...))
	})},
	{"a certificate is near its end", allowing(problems("certificates-not-renewed", "certificate-worse"), func(
		ctx context.Context, s *stage, r *rand.Rand,
	) (outcome, error) {
		host := of(r, s.hosts)
		return s.spell(ctx, func() error { return s.renew(host, time.Hour) },
			s.byAll(wants("cert-taken", "", host), wants("cert-expiring", "", host, "expires at")),
			func() error { return s.renew(host, 0) }, s.byAll(wants("cert-taken", "", host, ", before ")))
	})},
	{"a certificate goes into the store", func(ctx context.Context, s *stage, r *rand.Rand) (outcome, error) {
		host := fmt.Sprintf("stored-%d.example", r.Uint32())
		pair, err := s.issuers[s.hosts[0]].Issue(fleet.Leaf{Names: []string{host}})
		crt, key := filepath.Join(s.fleet.Dir(), "put.crt"), filepath.Join(s.fleet.Dir(), "put.key")
		err = errors.Join(err, os.WriteFile(crt, pair.Chain, 0o600), os.WriteFile(key, pair.Key, 0o600))
		for _, args := range [][]string{
			{"cert", "put", host, "--cert", crt, "--key", key}, {"cert", "rm", host},
		} {
			if err == nil {
				_, err = s.lockstep(ctx, of(r, s.planes), args...)
			}
		}
		return outcome{want: []expectation{
			wants("cert", "", host, "was put into the store"), wants("cert", "", host, "was removed from the store"),
		}}, err
	}},
}

// aside is where the folder of a host is put, so that its certificate is lost.
func (s *stage) aside(host string) string { return filepath.Join(s.fleet.Dir(), "aside-"+host) }
