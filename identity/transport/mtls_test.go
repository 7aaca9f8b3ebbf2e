package transport

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/proto/spiffe/workload"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"

	"github.com/lockstep-tls/lockstep/identity/identitytest"
	"github.com/lockstep-tls/lockstep/internal/testkit"
)

// agent is a SPIFFE Workload API by hand: a SPIRE agent as far as lockstepd sees one.
type agent struct {
	workload.UnimplementedSpiffeWorkloadAPIServer
	mu      sync.Mutex
	answer  *workload.X509SVIDResponse
	changed chan struct{}
}

func startAgent(t *testing.T) (a *agent, addr string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "agent.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	a = &agent{changed: make(chan struct{})}
	s := grpc.NewServer()
	workload.RegisterSpiffeWorkloadAPIServer(s, a)
	done := make(chan struct{})
	go func() { defer close(done); s.Serve(l) }()
	t.Cleanup(func() { s.Stop(); <-done })
	return a, "unix://" + path
}

// set replaces what the agent gives out: an SVID, the bundle of its domain, and those of others.
func (a *agent) set(t *testing.T, own identitytest.Authority, id string, others map[string]identitytest.Authority) {
	t.Helper()
	c := own.SVID(id)
	key, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	r := &workload.X509SVIDResponse{FederatedBundles: map[string][]byte{}, Svids: []*workload.X509SVID{
		{SpiffeId: "spiffe://" + id, X509Svid: c.Certificate[0], X509SvidKey: key, Bundle: own.Cert.Raw},
	}}
	for domain, o := range others {
		r.FederatedBundles["spiffe://"+domain] = o.Cert.Raw
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.answer = r
	close(a.changed)
	a.changed = make(chan struct{})
}

func (a *agent) FetchX509SVID(_ *workload.X509SVIDRequest, s workload.SpiffeWorkloadAPI_FetchX509SVIDServer) error {
	for {
		a.mu.Lock()
		answer, changed := a.answer, a.changed
		a.mu.Unlock()
		if err := s.Send(answer); err != nil {
			return err
		}
		select {
		case <-changed:
		case <-s.Context().Done():
			return s.Context().Err()
		}
	}
}

// meet makes an mTLS handshake as a node would, and returns the server's serial and who the server
// took the node for.
func meet(server *tls.Config, node *tls.Certificate) (serial *big.Int, who string, err error) {
	in, out := net.Pipe()
	defer in.Close()
	defer out.Close()
	c := &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}}
	if node != nil {
		c.Certificates = []tls.Certificate{*node}
	}
	client := tls.Client(out, c)
	verdict := make(chan error, 1)
	go func() {
		err := client.Handshake()
		if err == nil {
			_, err = client.Read(make([]byte, 1)) // TLS 1.3: the server's verdict comes after
		}
		verdict <- err
	}()
	s := tls.Server(in, server)
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err = s.HandshakeContext(ctx); err == nil {
		st := s.ConnectionState()
		who = Identity(peer.NewContext(ctx, &peer.Peer{AuthInfo: credentials.TLSInfo{State: st}}))
	}
	in.Close()
	<-verdict
	if certs := client.ConnectionState().PeerCertificates; err == nil && len(certs) > 0 {
		serial = certs[0].SerialNumber
	}
	return serial, who, err
}

func TestIdentityFromASPIFFEWorkloadAPI(t *testing.T) {
	fleet, partner, liar := identitytest.NewAuthority(t, "fleet.example"),
		identitytest.NewAuthority(t, "partner.example"), identitytest.NewAuthority(t, "fleet.example")
	a, addr := startAgent(t)
	a.set(t, fleet, "fleet.example/lockstepd", map[string]identitytest.Authority{"partner.example": partner})
	for _, withPolicy := range []bool{false, true} {
		s, err := Open(Config{SPIFFESocket: addr, Federated: withPolicy, Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		for _, n := range []struct {
			by     identitytest.Authority
			id     string
			letsIn bool
		}{
			{fleet, "fleet.example/edge/1", true},
			// without a policy every certificate would mean everything
			{partner, "partner.example/edge/1", withPolicy},
			{liar, "fleet.example/edge/1", false},
			{partner, "fleet.example/edge/1", false}, // a CA speaks for its own domain only
			{fleet, "partner.example/edge/1", false},
		} {
			crt := n.by.SVID(n.id)
			_, who, err := meet(s.Server("h2"), &crt)
			if (err == nil) != n.letsIn || err == nil && who != "spiffe://"+n.id {
				t.Errorf("policy %v, %s: %q %v, want in: %v", withPolicy, n.id, who, err, n.letsIn)
			}
		}
		if _, _, err := meet(s.Server("h2"), nil); err == nil {
			t.Error("a node without a certificate was let in")
		}
	}
}

func TestACertificateFromTheWorkloadAPIIsReplacedAsItChanges(t *testing.T) {
	fleet, next := identitytest.NewAuthority(t, "fleet.example"), identitytest.NewAuthority(t, "fleet.example")
	a, addr := startAgent(t)
	a.set(t, fleet, "fleet.example/lockstepd", nil)
	s, err := Open(Config{SPIFFESocket: addr, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	server := s.Server("h2")
	node, later := fleet.SVID("fleet.example/edge/1"), next.SVID("fleet.example/edge/1")
	first, _, err := meet(server, &node)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := meet(server, &later); err == nil {
		t.Fatal("a CA that is not in the bundle")
	}
	a.set(t, next, "fleet.example/lockstepd", nil)
	testkit.Until(t, func() error {
		serial, who, err := meet(server, &later)
		if err == nil && (serial.Cmp(first) == 0 || who != "spiffe://fleet.example/edge/1") {
			err = fmt.Errorf("serial %s, %s", serial, who)
		}
		return err
	})
	if _, _, err := meet(server, &node); err == nil {
		t.Error("the CA that was taken out of the bundle still counts")
	}
}

// Files: whoever has a certificate of the CA is let in, under the names in it.
func TestIdentityFromACertificateOfTheCA(t *testing.T) {
	ca, other := identitytest.NewAuthority(t, "fleet.example"), identitytest.NewAuthority(t, "fleet.example")
	dir := t.TempDir()
	identitytest.Certify(t, dir, "server.example")
	pemFile := filepath.Join(dir, "ca.pem")
	if err := os.WriteFile(pemFile, identitytest.PEM(ca.Cert), 0o600); err != nil {
		t.Fatal(err)
	}
	host := filepath.Join(dir, "server.example")
	s, err := Open(filesIn(host, pemFile))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	cert, key := ca.Sign(&x509.Certificate{DNSNames: []string{"Edge-1.example", "edge-1"}})
	for want, crt := range map[string]tls.Certificate{
		"spiffe://fleet.example/a": ca.SVID("fleet.example/a"),
		"edge-1.example edge-1":    {Certificate: [][]byte{cert.Raw}, PrivateKey: key},
	} {
		if _, who, err := meet(s.Server("h2"), &crt); err != nil || who != want {
			t.Errorf("%q %v, want %q", who, err, want)
		}
	}
	crt := other.SVID("fleet.example/a")
	if _, who, err := meet(s.Server("h2"), &crt); err == nil || who != "" {
		t.Errorf("a stranger was let in as %q", who)
	}
}

func TestNoAgentIsSaidAtStart(t *testing.T) {
	_, err := openSPIFFE(Config{SPIFFESocket: "unix:///nowhere/agent.sock", Log: slog.New(slog.DiscardHandler)},
		100*time.Millisecond)
	if err == nil || !strings.Contains(err.Error(), "is the agent up") || !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}

// The CA's file is read again as it changes; one that cannot be used changes nothing.
func TestAnotherCAInTheFileCountsAtOnce(t *testing.T) {
	was, next := identitytest.NewAuthority(t, "fleet.example"), identitytest.NewAuthority(t, "fleet.example")
	dir := t.TempDir()
	identitytest.Certify(t, dir, "server.example")
	file, host := filepath.Join(dir, "ca.pem"), filepath.Join(dir, "server.example")
	write := func(b []byte) {
		t.Helper()
		if err := errors.Join(os.WriteFile(file+".new", b, 0o600), os.Rename(file+".new", file)); err != nil {
			t.Fatal(err)
		}
	}
	write(identitytest.PEM(was.Cert))
	s, err := Open(filesIn(host, file))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	old, fresh := was.SVID("fleet.example/a"), next.SVID("fleet.example/a")
	lets := func(c *tls.Certificate) error { _, _, err := meet(s.Server("h2"), c); return err }
	if err := lets(&old); err != nil || lets(&fresh) == nil {
		t.Fatal(err)
	}
	write([]byte("no certificate"))
	// files are looked at once a second
	ctx, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond)
	defer cancel()
	for ctx.Err() == nil {
		if err := lets(&old); err != nil {
			t.Fatalf("while the file is broken: %v", err)
		}
		time.Sleep(100 * time.Millisecond)
	}
	write(identitytest.PEM(next.Cert))
	testkit.Until(t, func() error { return lets(&fresh) })
	if lets(&old) == nil {
		t.Error("the CA that was taken out still counts")
	}
}

// filesIn is mTLS with tls.crt and tls.key of a folder, and a CA.
func filesIn(folder, ca string) Config {
	return Config{
		Cert: filepath.Join(folder, "tls.crt"), Key: filepath.Join(folder, "tls.key"),
		ClientCA: ca, Log: slog.New(slog.DiscardHandler),
	}
}
