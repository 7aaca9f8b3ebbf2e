package e2e

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-tls/lockstep/test/fleet"
)

// serves returns nil if every Envoy serves that certificate for the host.
func (s *stage) serves(host string, want fleet.Pair) error {
	block, _ := pem.Decode(want.Chain)
	for _, e := range s.envoys {
		got, err := s.served(e, host)
		if err != nil {
			return err
		}
		if !bytes.Equal(got.Raw, block.Bytes) {
			return fmt.Errorf("%s serves another certificate for %s, of %s", e.name, host, got.NotBefore)
		}
	}
	return nil
}

func (s *stage) served(e *envoy, host string) (*x509.Certificate, error) {
	ctx, cancel := context.WithTimeout(s.ctx, 5*time.Second)
	defer cancel()
	d := tls.Dialer{Config: &tls.Config{ServerName: host, RootCAs: s.ca.Pool()}}
	conn, err := d.DialContext(ctx, "tcp", e.addr)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	return conn.(*tls.Conn).ConnectionState().PeerCertificates[0], nil
}

// TestRenewedCertificatesReachLiveEnvoys: by a rename of each file, and by the link that Kubernetes
// swaps; tickets outlive it.
func TestRenewedCertificatesReachLiveEnvoys(t *testing.T) {
	s := newStage(t, setup{})
	mounted := "mounted.example"
	s.ok(fleet.MountHost(s.certs, mounted, s.issue(mounted)))
	s.hosts = append(s.hosts, mounted)
	s.fleetOf(2)
	s.awaitPhase("steady", 2)
	a := s.clients()
	for range 3 {
		renamed, swapped := s.renew(s.hosts[0]), s.issue(mounted)
		s.ok(fleet.MountHost(s.certs, mounted, swapped))
		s.eventuallyWithin(3*time.Second, func() error { return s.serves(s.hosts[0], renamed) })
		s.eventuallyWithin(3*time.Second, func() error { return s.serves(mounted, swapped) })
		a.cross("a renewal")
	}
	if r := s.lockstep("status"); r.code != 0 {
		t.Errorf("status: exit code %d: %s", r.code, r.err)
	}
}

// TestBadFilesLeaveTheLastGoodCertificate: each is named in the status, and a good pair ends it.
func TestBadFilesLeaveTheLastGoodCertificate(t *testing.T) {
	s := newStage(t, setup{})
	s.fleetOf(2)
	s.awaitPhase("steady", 2)
	a := s.clients()
	host := s.hosts[0]
	good := s.renew(host)
	s.eventually(func() error { return s.serves(host, good) })

	expired, err := s.ca.Issue(fleet.Leaf{Names: []string{host}, Valid: -time.Hour})
	s.ok(err)
	other := s.issue(host)
	for _, bad := range []struct {
		name, words string
		pair        fleet.Pair
	}{
		{"expired", "expired", expired},
		{"a key of another certificate", "does not belong", fleet.Pair{Chain: other.Chain, Key: good.Key}},
		{"half a chain", "chain: the PEM is broken or cut short", fleet.Pair{
			Chain: other.Chain[:len(other.Chain)/2], Key: other.Key,
		}},
		{"half a key", "private key: the PEM is broken or cut short", fleet.Pair{
			Chain: other.Chain, Key: other.Key[:len(other.Key)/2],
		}},
		{"for another name", "not for " + host, s.issue("elsewhere.example")},
	} {
		t.Run(bad.name, func(t *testing.T) {
			s := s.in(t)
			s.ok(fleet.WriteHost(s.certs, host, bad.pair))
			var st status
			s.eventually(func() error {
				s.ok(s.show(&st, "status"))
				if len(st.Certificates.Problems) != 1 {
					return fmt.Errorf("problems: %q", st.Certificates.Problems)
				}
				return nil
			})
			if p := st.Certificates.Problems[0]; !strings.Contains(p, host) || !strings.Contains(p, bad.words) {
				t.Errorf("the problem is said to be %q, want %q and %q in it", p, host, bad.words)
			}
			s.mustFail(3, "certificate", "status")
			s.ok(s.serves(host, good))
			a.in(s).cross("bad files")

			good = s.renew(host)
			s.eventually(func() error { return s.serves(host, good) })
			s.eventually(func() error {
				if r := s.lockstep("status"); r.code != 0 {
					return fmt.Errorf("status: exit code %d: %s", r.code, r.err)
				}
				return nil
			})
			a.cross("good files")
		})
	}
}

// TestDirectoryWinsOverTheStore, and the clash is shown.
func TestDirectoryWinsOverTheStore(t *testing.T) {
	s := newStage(t, setup{})
	s.fleetOf(2)
	s.awaitPhase("steady", 2)
	a := s.clients()
	host := s.hosts[0]
	good := s.renew(host)
	s.eventually(func() error { return s.serves(host, good) })
	if out := s.writePair(host, s.issue(host)); !strings.Contains(out, `"shadowed": true`) &&
		!strings.Contains(out, `"shadowed":true`) {
		t.Errorf("cert put said %s", out)
	}
	var st status
	s.ok(s.show(&st, "status"))
	if !slices.Equal(st.Certificates.Clashes, []string{host}) {
		t.Errorf("clashes: %q", st.Certificates.Clashes)
	}
	time.Sleep(time.Second) // as long as a change takes to come, and more
	s.ok(s.serves(host, good))
	a.cross("a clash")
	s.mustRun("cert", "rm", host)
	s.ok(s.show(&st, "status"))
	if len(st.Certificates.Clashes) != 0 {
		t.Errorf("clashes: %q", st.Certificates.Clashes)
	}
	s.ok(s.serves(host, good))
	s.mustFail(5, "does not belong", "cert", "put", host,
		"--cert", s.file("bad.crt", s.issue("elsewhere.example").Chain), "--key", s.file("bad.key", good.Key))
	a.cross("it was removed from the store")
}

// TestLossOfManyNamesIsHeldBack until somebody confirms it.
func TestLossOfManyNamesIsHeldBack(t *testing.T) {
	s := newStage(t, setup{hosts: 8})
	s.fleetOf(2)
	s.awaitPhase("steady", 2)
	a := s.clients()
	aside := s.path("aside")
	s.ok(os.Rename(s.certs, aside)) // the volume is gone
	s.ok(os.Mkdir(s.certs, 0o755))
	var st status
	s.eventually(func() error {
		s.ok(s.show(&st, "status"))
		if len(st.Certificates.Held) != 8 {
			return fmt.Errorf("held back: %v", st.Certificates.Held)
		}
		return nil
	})
	s.mustFail(3, "8 names are gone", "status")
	newcomer := s.envoy("newcomer") // lockstepd still has what it loaded
	s.awaitReady(newcomer)
	s.ok(s.reaches(newcomer, s.hosts[7]))
	a.cross("all certificates were gone")

	// They come back as if nothing had been.
	for _, h := range s.hosts[:4] {
		s.ok(os.Rename(filepath.Join(aside, h), filepath.Join(s.certs, h)))
	}
	s.eventually(func() error {
		s.ok(s.show(&st, "status"))
		if len(st.Certificates.Held) != 4 {
			return fmt.Errorf("held back: %v", st.Certificates.Held)
		}
		return nil
	})
	out := s.mustRun("cert", "rm", "--confirm")
	for _, h := range s.hosts[4:] {
		if !strings.Contains(out, h) {
			t.Errorf("%s was not named: %s", h, out)
		}
	}
	s.mustRun("status")
	s.mustFail(4, s.hosts[7], "cert", "get", s.hosts[7])
	s.mustRun("cert", "get", s.hosts[0])
	s.ok(s.reaches(newcomer, s.hosts[0]))
}
