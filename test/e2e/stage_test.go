// Package e2e holds what only a whole system can show: the real lockstepd and lockstep, real Envoys
// with the bootstrap that lockstep prints, and clients that carry their sessions from node to node
// while things break. After each step of a fault the whole account is looked at again: no live
// ticket refused, no handshake failed on a node that was up.
package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/lockstep-tls/lockstep/test/fleet"
)

var bin string // the folder of lockstepd, lockstep and lockstep-edge

func TestMain(m *testing.M) {
	if pid, err := strconv.Atoi(os.Getenv(spyOn)); err == nil {
		spy(pid)
		return
	}
	var err error
	if bin, err = fleet.Build(context.Background(), "lockstepd", "lockstep", "lockstep-edge"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	goleak.VerifyTestMain(m)
}

const patience = 90 * time.Second // of one test; each normally takes a fraction of it

// stage is a control plane with the Envoys of one test.
type stage struct {
	t        *testing.T
	ctx      context.Context
	fleet    *fleet.Fleet
	ca       *fleet.CA
	hosts    []string
	certs    string // --certs
	upstream *fleet.Upstream
	plane    *fleet.Lockstepd
	tls      []string // flags of the CLI, where the admin API speaks mTLS
	envoys   []*envoy
}

// setup says how a stage is set up.
type setup struct {
	hosts int // with certificates in the directory; 0: two
	// YAML of the configuration under "scopes:"; "": default, with tickets that live for lifetime
	scopes string
	later  bool // the test starts lockstepd itself
}

const lifetime = 20 * time.Second // ticket_lifetime where a test says nothing else

// newStage sets up a stage: certificates, an upstream, and lockstepd, ready unless it comes later.
func newStage(t *testing.T, p setup) *stage {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	s := &stage{t: t, ctx: ctx, fleet: fleet.ForTest(t)}
	var err error
	s.ca, err = fleet.NewCA("Lockstep Test CA")
	s.ok(err)
	s.ok(os.WriteFile(s.path("ca.pem"), s.ca.PEM(), 0o644))
	s.certs = s.path("certs")
	s.ok(os.Mkdir(s.certs, 0o755))
	if p.hosts == 0 {
		p.hosts = 2
	}
	for i := range p.hosts {
		s.hosts = append(s.hosts, fmt.Sprintf("host-%d.example", i+1))
		s.renew(s.hosts[i])
	}
	s.upstream, err = fleet.NewUpstream()
	s.ok(err)
	t.Cleanup(func() { s.upstream.Close() })
	if p.scopes == "" {
		p.scopes = fmt.Sprintf("  default: {ticket_lifetime: %s}\n", lifetime)
	}
	config := s.path("lockstep.yaml")
	s.ok(os.WriteFile(config, []byte("scopes:\n"+p.scopes), 0o600))
	s.plane = &fleet.Lockstepd{Bin: bin, Certs: s.certs, Args: []string{"--config", config}}
	s.plane.XDS, err = s.fleet.Socket() // Envoys may be there first
	s.ok(err)
	for _, addr := range []*string{&s.plane.Admin, &s.plane.NATS} {
		*addr, err = fleet.Addr()
		s.ok(err)
	}
	if !p.later {
		s.start()
	}
	return s
}

// start starts lockstepd and waits until it is ready.
func (s *stage) start() {
	s.t.Helper()
	var err error
	s.plane, err = s.fleet.Lockstepd("lockstepd", *s.plane)
	s.ok(err)
	s.ok(s.plane.Ready(s.ctx))
}

// overTCP has nodes come to lockstepd over TCP, with these flags of it. It is called before start.
func (s *stage) overTCP(flags ...string) {
	s.t.Helper()
	var err error
	s.plane.XDS, err = fleet.Addr()
	s.ok(err)
	s.plane.Args = append(s.plane.Args, flags...)
}

func (s *stage) path(name string) string { return filepath.Join(s.fleet.Dir(), name) }

func (s *stage) ok(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// eventuallyWithin waits until check returns nil.
func (s *stage) eventuallyWithin(d time.Duration, check func() error) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.ctx, d)
	defer cancel()
	s.ok(fleet.Until(ctx, check))
}

// eventually is within a time that only a machine under heavy load needs.
func (s *stage) eventually(check func() error) {
	s.t.Helper()
	s.eventuallyWithin(15*time.Second, check)
}

// issue issues a certificate for the names.
func (s *stage) issue(names ...string) fleet.Pair {
	s.t.Helper()
	p, err := s.ca.Issue(fleet.Leaf{Names: names})
	s.ok(err)
	return p
}

// renew puts a new certificate of the same issuer into the directory.
func (s *stage) renew(host string) fleet.Pair {
	s.t.Helper()
	p := s.issue(host)
	s.ok(fleet.WriteHost(s.certs, host, p))
	return p
}

var errNotYet = errors.New("not yet")

// writePair stores a certificate with the CLI, and returns what it printed.
func (s *stage) writePair(name string, p fleet.Pair) string {
	s.t.Helper()
	return s.mustRun("-o", "json", "cert", "put", name,
		"--cert", s.file("put.crt", p.Chain), "--key", s.file("put.key", p.Key))
}

// file writes a file outside the watched directory and returns its path.
func (s *stage) file(name string, b []byte) string {
	s.t.Helper()
	s.ok(os.WriteFile(s.path(name), b, 0o600))
	return s.path(name)
}
