package e2e

import (
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/lockstep-tls/lockstep/test/fleet"
)

// pki is the CA of a control plane and its nodes, which is not that of the hosts they serve.
type pki struct {
	*fleet.CA
	s   *stage
	dir string // as --certs is laid out: <name>/tls.crt and tls.key
}

func (p pki) issue(name string, l fleet.Leaf) fleet.Pair {
	p.s.t.Helper()
	pair, err := p.Issue(l)
	p.s.ok(err)
	p.s.ok(fleet.WriteHost(p.dir, name, pair))
	return pair
}

// files are the chain and the key of a name.
func (p pki) files(name string) (crt, key string) {
	dir := fleet.HostDir(p.dir, name)
	return dir + "/tls.crt", dir + "/tls.key"
}

// client is the TLS of a Go client with that certificate; "" is none.
func (p pki) client(name string) *tls.Config {
	p.s.t.Helper()
	c := &tls.Config{RootCAs: p.Pool()}
	if name != "" {
		pair, err := tls.LoadX509KeyPair(p.files(name))
		p.s.ok(err)
		c.Certificates = []tls.Certificate{pair}
	}
	return c
}

// TestMTLS: with TLS files lockstepd speaks mTLS to nodes, on loopback too; they are known by their
// certificates, and its own is replaced without a restart. The admin API stays plaintext on
// loopback.
func TestMTLS(t *testing.T) {
	s := newStage(t, setup{later: true})
	ca, err := fleet.NewCA("Lockstep Nodes CA")
	s.ok(err)
	p := pki{ca, s, s.path("pki")}
	root := s.file("nodes-ca.pem", ca.PEM())
	own := fleet.Leaf{IPs: []string{"127.0.0.1"}}
	p.issue("server", own)
	p.issue("operator", fleet.Leaf{Names: []string{"operator.example"}})
	p.issue("edge-1", fleet.Leaf{URIs: []string{"spiffe://fleet.example/edge/1"}, Names: []string{"ignored.example"}})
	p.issue("edge-2", fleet.Leaf{Names: []string{"edge-2.fleet.example"}})

	crt, key := p.files("server")
	s.overTCP("--xds-cert", crt, "--xds-key", key, "--xds-client-ca", root)
	s.start()

	join := func(id, certificate string) *envoy {
		crt, key := p.files(certificate)
		return s.envoy(id, "--xds-ca", root, "--xds-cert", crt, "--xds-key", key)
	}
	one, two := join("edge-1", "edge-1"), join("edge-2", "edge-2")
	s.awaitReady(one, two)
	s.awaitPhase("steady", 2)
	a := s.clients(one, two)
	identities := map[string]string{}
	for _, n := range s.nodes() {
		identities[n.Node] = n.Identity
	}
	if got, want := fmt.Sprint(identities),
		"map[edge-1:spiffe://fleet.example/edge/1 edge-2:edge-2.fleet.example]"; got != want {
		t.Errorf("the nodes' identities: %s, want %s", got, want)
	}

	// Who has no certificate of that CA gets nothing.
	stranger, err := fleet.NewCA("Another CA")
	s.ok(err)
	pki{stranger, s, p.dir}.issue("stranger", fleet.Leaf{Names: []string{"edge-3.fleet.example"}})
	plain, foreign := s.envoy("plain"), join("foreign", "stranger")
	for who, c := range map[string]*tls.Config{
		"nobody": p.client(""), "a stranger": p.client("stranger"), "the operator": p.client("operator"),
	} {
		if err := greet(s.plane.XDS, c); (err == nil) != (who == "the operator") {
			t.Errorf("%s: %v", who, err)
		}
	}
	s.eventually(func() error { return errors.Join(plain.waits(), foreign.waits()) })
	time.Sleep(time.Second)
	s.ok(errors.Join(plain.waits(), foreign.waits()))
	if names := s.names(); !slices.Equal(names, []string{"edge-1 live", "edge-2 live"}) {
		t.Errorf("nodes: %v", names)
	}
	s.mustRun("rotate", "--wait", "--timeout", "10s")
	a.awaitKeyInUse()
	a.cross("a rotation")

	// The server's own certificate is replaced: new connections see it, those that are open stay.
	for range 2 {
		fresh := p.issue("server", own)
		s.eventuallyWithin(5*time.Second, func() error {
			return presents(s.plane.XDS, p.client("operator"), fresh)
		})
		s.awaitPhase("steady", 2)
		a.cross("the server's certificate was replaced")
	}
	s.ok(two.Restart())
	s.awaitReady(two)
	s.awaitPhase("steady", 2)
}

// greet makes a handshake and waits for the server's verdict on the client: in TLS 1.3 it comes
// after the client is done.
func greet(addr string, c *tls.Config) error {
	c = c.Clone()
	c.NextProtos = []string{"h2"}
	conn, err := tls.Dial("tcp", addr, c)
	if err != nil {
		return err
	}
	defer conn.Close()
	conn.SetReadDeadline(time.Now().Add(time.Second))
	if _, err = conn.Read(make([]byte, 1)); errors.Is(err, os.ErrDeadlineExceeded) {
		return nil // it says nothing, as a server may that expects a request
	}
	return err
}

// presents returns nil if the server at addr shows that certificate.
func presents(addr string, c *tls.Config, want fleet.Pair) error {
	conn, err := tls.Dial("tcp", addr, c)
	if err != nil {
		return err
	}
	defer conn.Close()
	pair, err := tls.X509KeyPair(want.Chain, want.Key)
	if err != nil {
		return err
	}
	if got := conn.ConnectionState().PeerCertificates[0]; !got.Equal(pair.Leaf) {
		return fmt.Errorf("%s still shows the certificate %s", addr, got.SerialNumber)
	}
	return nil
}
