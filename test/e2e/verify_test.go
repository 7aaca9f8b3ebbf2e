package e2e

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lockstep-tls/lockstep/test/fleet"
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

// TestVerifyTakesLargeRSAKeys of nodes that others configure, up to a bound, and says what to do
// beyond it.
func TestVerifyTakesLargeRSAKeys(t *testing.T) {
	t.Parallel()
	s := &stage{t: t, ctx: t.Context(), fleet: fleet.ForTest(t)}
	var err error
	s.ca, err = fleet.NewCA("Lockstep Test CA")
	s.ok(err)
	pair := s.issue("shop.example")
	for bits, code := range map[int]int{9000: 0, 16384: 0, 16400: 1} {
		cert, err := tls.X509KeyPair(pair.Chain, pair.Key)
		s.ok(err)
		n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), uint(bits-1)))
		s.ok(err)
		n.SetBit(n.SetBit(n, bits-1, 1), 0, 1)
		der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: big.NewInt(1)},
			&x509.Certificate{}, &rsa.PublicKey{N: n, E: 65537}, cert.PrivateKey)
		s.ok(err)
		cert.Certificate = append(cert.Certificate, der)
		node := httptest.NewUnstartedServer(http.NotFoundHandler())
		node.TLS = &tls.Config{Certificates: []tls.Certificate{cert}}
		node.Config.ErrorLog = log.New(io.Discard, "", 0)
		node.StartTLS()
		defer node.Close()
		args := []string{"verify", "--insecure", "--sni", "shop.example", node.Listener.Addr().String()}
		b, err := exec.CommandContext(s.ctx, filepath.Join(bin, "lockstep"), args...).CombinedOutput()
		if failed := (*exec.ExitError)(nil); errors.As(err, &failed) != (code != 0) ||
			(code != 0) != strings.Contains(string(b), "an RSA key of 8192 bits at most") {
			t.Errorf("%d bits: %v, %s", bits, err, b)
		}
	}
}
