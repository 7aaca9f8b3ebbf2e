package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-tls/lockstep/test/fleet"
)

// ability is what an OpenSSL client can do.
type ability struct {
	name  string
	flags []string
	kind  string // of the certificate that it must be shown, as OpenSSL names its signature
}

var (
	onlyRSA = ability{"TLS 1.2, RSA only",
		[]string{"-tls1_2", "-cipher", "ECDHE-RSA-AES128-GCM-SHA256", "-sigalgs", "RSA-PSS+SHA256:RSA+SHA256"}, "RSA"}
	onlyECDSA = ability{"TLS 1.2, ECDSA only",
		[]string{"-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-GCM-SHA256", "-sigalgs", "ECDSA+SHA256"}, "ECDSA"}
	onlyPSS   = ability{"TLS 1.3, rsa_pss only", []string{"-tls1_3", "-sigalgs", "RSA-PSS+SHA256"}, "RSA"}
	usual     = ability{"TLS 1.3", []string{"-tls1_3"}, "ECDSA"}
	abilities = []ability{onlyRSA, onlyECDSA, onlyPSS, usual}
)

// as makes a connection as such a client, and keeps its session in a file. It returns what OpenSSL
// said. The error says that the handshake failed or the certificate is not of the kind.
func (s *stage) as(a ability, e *envoy, host, session string, more ...string) (string, error) {
	args := append([]string{"s_client", "-connect", e.addr, "-servername", host, "-CAfile", s.path("ca.pem"),
		"-verify_hostname", host, "-verify_return_error", "-ign_eof", "-sess_out", session}, a.flags...)
	cmd := exec.CommandContext(s.ctx, "openssl", append(args, more...)...)
	cmd.Stdin = strings.NewReader("HEAD / HTTP/1.1\r\nHost: " + host + "\r\nConnection: close\r\n\r\n")
	out, err := cmd.CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("%s at %s: %w: %s", a.name, e.name, err, out)
	}
	if len(more) == 0 && !strings.Contains(string(out), "Peer signature type: "+a.kind) {
		return string(out), fmt.Errorf("%s at %s is not shown its %s certificate: %s", a.name, e.name, a.kind, out)
	}
	return string(out), nil
}

// sessionOf is the file of a client's session at a node.
func (s *stage) sessionOf(a ability, e *envoy) string {
	return s.path(strings.ReplaceAll(e.name+a.name, " ", "-") + ".pem")
}

// keepsSessions demands that the sessions that these clients have of the nodes are resumed there.
func (s *stage) keepsSessions(after string, clients []ability, nodes ...*envoy) {
	s.t.Helper()
	for _, e := range nodes {
		for _, a := range clients {
			out, err := s.as(a, e, s.hosts[0], s.path("none.pem"), "-sess_in", s.sessionOf(a, e))
			if err != nil || !strings.Contains(out, "Reused, TLS") {
				s.t.Errorf("after %s: %s at %s: a live ticket is refused: %v: %s", after, a.name, e.name, err, out)
			}
		}
	}
}

// issueRSA issues an RSA certificate.
func (s *stage) issueRSA(host string) fleet.Pair {
	s.t.Helper()
	p, err := s.ca.Issue(fleet.Leaf{Names: []string{host}, RSA: true})
	s.ok(err)
	return p
}

// renewSecond puts an RSA certificate beside that of a host.
func (s *stage) renewSecond(host string) fleet.Pair {
	s.t.Helper()
	p := s.issueRSA(host)
	s.lay(fleet.HostDir(s.certs, host), map[string]string{"tls.rsa.crt": string(p.Chain), "tls.rsa.key": string(p.Key)})
	return p
}

// TestAHostWithTwoCertificates: an RSA and an ECDSA certificate are served by an Envoy with chains
// of its own, by one whose listener comes from lockstepd, and by the edge. The client's abilities
// decide. No live ticket is refused when keys rotate, nor when one of the two is renewed. When the
// second one is gone, what serves goes on.
func TestAHostWithTwoCertificates(t *testing.T) {
	t.Parallel() // it mostly waits
	s := newStage(t, setup{later: true, scopes: "  default: {ticket_lifetime: 2m}\n"})
	s.moreTime(2 * time.Minute)
	host, other := s.hosts[0], s.hosts[1]
	addr := s.listen("  hosts: [" + host + "]\n")
	s.renewSecond(host)
	s.renewSecond(other)
	s.start()
	raw := s.envoy("raw", "--host", host+":rsa", "--ticket-lifetime", "2m")
	hybrid := s.hybrid("hybrid", addr)
	edge := s.edge("edge", "")
	s.awaitReady(raw, hybrid, edge)
	nodes := []*envoy{raw, hybrid, edge}
	if r := s.lockstep("bootstrap", "envoy", "--node", "x", "--host", host, "--host", "gone.example"); r.code != 0 ||
		!strings.Contains(r.out, fmt.Sprintf("{name: %q, sds_config", host+":rsa")) ||
		strings.Contains(r.out, "gone.example:rsa") || !strings.Contains(r.err, "its chain names both") {
		t.Errorf("bootstrap does not find the second certificate: %s%s", r.out, r.err)
	}

	for _, e := range nodes {
		for _, a := range abilities {
			s.eventually(func() error { _, err := s.as(a, e, host, s.sessionOf(a, e)); return err })
		}
	}
	s.keepsSessions("nothing", abilities, nodes...)
	s.mustRun("rotate", "--wait")
	s.keepsSessions("a rotation", abilities, nodes...)

	// On demand a secret is one certificate. The edge has both.
	for _, e := range []*envoy{hybrid, edge} {
		s.eventually(func() error { _, err := s.as(onlyECDSA, e, other, s.path("none.pem")); return err })
	}
	if out, err := s.as(onlyRSA, hybrid, other, s.path("none.pem")); err == nil {
		t.Errorf("on demand an RSA certificate is served, which no page says: %s", out)
	}
	if _, err := s.as(onlyRSA, edge, other, s.path("none.pem")); err != nil {
		t.Error(err)
	}

	out := s.mustRun("verify", "--sni", host, "--ca", s.path("ca.pem"), raw.addr, hybrid.addr)
	for _, want := range []string{"TLS 1.2: 4 of 4", "TLS 1.3: 4 of 4",
		"a client that can do RSA only: served by 2 of 2"} {
		if !strings.Contains(out, want) {
			t.Errorf("verify says %s, want %q", out, want)
		}
	}
	for _, c := range []struct{ words, args string }{
		{host + ":rsa +directory", "cert list " + host}, {host + ":rsa +directory", "cert get " + host + ":rsa"},
		{"BESIDE IT", "explain " + host},
		{"gets the certificate of " + host + ":rsa from the directory", "explain " + host + ":rsa"},
		{"the certificate of " + host + ":rsa was taken", "events --host " + host},
	} {
		if out := s.mustRun(strings.Fields(c.args)...); !strings.Contains(strings.Join(strings.Fields(out), " "),
			strings.ReplaceAll(c.words, " +", " ")) {
			t.Errorf("%s says %s, want %q", c.args, out, c.words)
		}
	}

	// A renewal of one of the two is seen everywhere, and leaves the other one alone.
	clients := map[bool][]ability{false: {onlyECDSA, usual}, true: {onlyRSA, onlyPSS}}
	for _, second := range []bool{true, false} {
		renewed := s.renewed(second)
		for _, e := range nodes {
			a := clients[second][0]
			s.eventually(func() error {
				out, err := s.as(a, e, host, s.path("none.pem"))
				if err == nil && !strings.Contains(out, firstLine(renewed)) {
					err = fmt.Errorf("%s at %s still sees the earlier certificate", a.name, e.name)
				}
				return err
			})
		}
		s.keepsSessions("a renewal of one of the two", abilities, nodes...)
	}

	// When the files of the second one go, an Envoy with chains of its own goes on, also after a
	// restart.
	for _, file := range []string{"tls.rsa.crt", "tls.rsa.key"} {
		s.ok(os.Remove(filepath.Join(fleet.HostDir(s.certs, host), file)))
	}
	for _, e := range []*envoy{hybrid, edge} {
		s.eventually(func() error {
			if _, err := s.as(onlyRSA, e, host, s.path("none.pem")); err == nil {
				return fmt.Errorf("%s still serves the RSA certificate", e.name)
			}
			return nil
		})
	}
	for _, e := range nodes {
		if _, err := s.as(onlyECDSA, e, host, s.path("none.pem")); err != nil {
			t.Error(err)
		}
	}
	if _, err := s.as(onlyRSA, raw, host, s.path("none.pem")); err != nil {
		t.Errorf("the last good one does not stay: %v", err)
	}
	s.ok(raw.Kill())
	s.ok(raw.Restart())
	s.awaitReady(raw)
	if _, err := s.as(usual, raw, host, s.path("none.pem")); err != nil {
		t.Errorf("after a restart without the second certificate: %v", err)
	}
}

// renewed renews one of the two certificates of the first host.
func (s *stage) renewed(second bool) fleet.Pair {
	if second {
		return s.renewSecond(s.hosts[0])
	}
	return s.renew(s.hosts[0])
}

// firstLine is a line of base64 that tells the leaf of p from others.
func firstLine(p fleet.Pair) string { return strings.Split(string(p.Chain), "\n")[3] }

// TestASecondCertificateBesideAReplicaOfBefore: a replica of the version before goes on beside one
// of this version when a second certificate is stored. It serves what it knows.
func TestASecondCertificateBesideAReplicaOfBefore(t *testing.T) {
	t.Parallel() // it mostly waits
	old := before(t)
	r, url, _ := onRedis(t, setup{scopes: "  default: {ticket_lifetime: 2m, node_lease: 10s}\n"})
	was := r.joinIn(r.fleet, fleet.Lockstepd{Bin: old}, "before", url)
	now := r.joinIn(r.fleet, fleet.Lockstepd{}, "now", url, "--canary", "0s")
	r.ask(now)
	host := r.hosts[0]
	for _, h := range r.hosts {
		r.writePair(h, r.issue(h))
	}
	if out := r.writePair(host+":rsa", r.issueRSA(host)); !strings.Contains(out, "a second certificate") {
		t.Errorf("cert put does not say what it does to tickets: %s", out)
	}
	one := r.eagerAt(was.XDS, "one", r.hosts)
	both := r.eagerAt(now.XDS, "both", append([]string{host + ":rsa"}, r.hosts...))
	r.awaitReady(one, both)
	for _, a := range abilities {
		r.eventually(func() error { _, err := r.as(a, both, host, r.sessionOf(a, both)); return err })
	}
	r.eventually(func() error { _, err := r.as(onlyECDSA, one, host, r.path("none.pem")); return err })
	for _, p := range r.planes {
		r.ask(p)
		r.mustRun("cert", "list")
		renewed := r.issue(host)
		r.writePair(host, renewed)
		for _, e := range []*envoy{one, both} {
			r.eventually(func() error { return r.serving(e, host, renewed) })
		}
		if said := r.complaints(p); said != "" {
			t.Errorf("%s complains: %s", p.Name(), said)
		}
	}
	r.ask(now)
	r.mustRun("rotate", "--wait")
	r.keepsSessions("a rotation", abilities, both)

	r.mustFail(5, "remove that one first", "cert", "rm", host)
	// A plan says it for one that is added, and for one that is renewed.
	other := r.hosts[1]
	plan := r.mustRun("plan", "--cert", other+":rsa", "--chain", r.file("plan.crt", r.issueRSA(other).Chain))
	if !strings.Contains(plan, "It ends the session tickets of "+other) ||
		!strings.Contains(plan, "a second certificate, RSA, is added") {
		t.Errorf("plan says %s", plan)
	}
	plan = r.mustRun("plan", "--cert", host+":rsa", "--chain", r.file("plan.crt", r.issueRSA(host).Chain))
	if !strings.Contains(plan, "The session tickets of "+host+" outlive it") {
		t.Errorf("plan says %s", plan)
	}

	// An import takes both, and the second one goes by itself.
	pair, second := r.issue("two.example"), r.issueRSA("two.example")
	r.lay(r.path("import"), map[string]string{
		"two.example/fullchain.cer": string(second.Chain), "two.example/two.example.key": string(second.Key),
		"two.example_ecc/fullchain.cer": string(pair.Chain), "two.example_ecc/two.example.key": string(pair.Key),
	})
	r.mustRun("cert", "import", r.path("import"))
	if out := r.mustRun("cert", "list", "two"); !strings.Contains(out, "two.example ") ||
		!strings.Contains(out, "two.example:rsa ") {
		t.Errorf("after the import: %s", out)
	}
	r.mustRun("cert", "rm", "two.example:rsa")
	r.mustRun("cert", "rm", "two.example")
	r.mustFail(5, "put that one first", "cert", "put", "two.example:rsa", "--cert", r.file("put.crt", second.Chain),
		"--key", r.file("put.key", second.Key))

	third := r.issueRSA(host)
	r.mustFail(5, "beside the RSA certificate", "cert", "put", host, "--cert", r.file("put.crt", third.Chain), "--key",
		r.file("put.key", third.Key))
}
