package e2e

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/lockstep-tls/lockstep/test/fleet"
)

// partner is a client with a certificate of one CA.
type partner struct {
	name string
	cert tls.Certificate
	// before are sessions that the client made, by TLS version.
	before map[uint16]tls.ClientSessionCache
	// at has them by node.
	at map[*envoy]map[uint16]tls.ClientSessionCache
}

// enters makes a request as a client, with a session or without. It reports whether that resumed.
func (s *stage) enters(e *envoy, p *partner, version uint16, sessions tls.ClientSessionCache) (resumed bool, _ error) {
	c := &tls.Config{
		ServerName: s.hosts[0], RootCAs: s.ca.Pool(), MinVersion: version, MaxVersion: version,
		Certificates: []tls.Certificate{p.cert}, ClientSessionCache: sessions,
		VerifyConnection: func(cs tls.ConnectionState) error { resumed = cs.DidResume; return nil },
	}
	transport := &http.Transport{TLSClientConfig: c,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", e.addr)
		}}
	defer transport.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(s.ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, "GET", "https://"+s.hosts[0]+"/", nil)
	s.ok(err)
	resp, err := transport.RoundTrip(req)
	if err == nil {
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			err = errors.New(resp.Status)
		}
	}
	return resumed, err
}

// kept offers a copy of what was kept, so that one session is offered again and again.
type kept struct{ tls.ClientSessionCache }

func (k kept) Put(string, *tls.ClientSessionState) {}

// keeps makes sessions and keeps them.
func (s *stage) keeps(e *envoy, p *partner) {
	s.t.Helper()
	p.before = map[uint16]tls.ClientSessionCache{}
	for _, v := range bothVersions {
		cache := tls.NewLRUClientSessionCache(1)
		for _, again := range []bool{false, true} {
			if resumed, err := s.enters(e, p, v, cache); err != nil || resumed != again {
				s.t.Errorf("%s: %s, %s: resumed %t, want %t; %v",
					e.name, p.name, tls.VersionName(v), resumed, again, err)
			}
		}
		p.before[v] = cache
	}
}

// inForce waits until clients are let in, or are not, whatever session they offer. No session of
// before resumes. That counts once several connections in a row show it, since each worker of an
// Envoy takes a change by itself.
func (s *stage) inForce(e *envoy, let map[*partner]bool) {
	s.t.Helper()
	inRow := 0
	s.eventually(func() error {
		for p, want := range let {
			for _, v := range bothVersions {
				fresh := tls.NewLRUClientSessionCache(1)
				offers := []tls.ClientSessionCache{fresh}
				if p.before != nil {
					offers = append(offers, kept{p.before[v]})
				}
				for i, offer := range offers {
					if resumed, err := s.enters(e, p, v, offer); (err == nil) != want || resumed {
						inRow = 0
						return fmt.Errorf("%s: %s, %s, offer %d: let in %t, want %t; resumed %t: %v",
							e.name, p.name, tls.VersionName(v), i, err == nil, want, resumed, err)
					}
				}
			}
		}
		if inRow++; inRow < 5 {
			return errNotYet
		}
		return nil
	})
}

func fingerprint(pemText []byte) string {
	block, _ := pem.Decode(pemText)
	return fmt.Sprintf("%x", sha256.Sum256(block.Bytes))
}

// TestOneClientCAReplacesAnother: clients of the old and of the new CA are let in while both are
// there, at an Envoy whose listener lockstepd serves and at an edge. After each change all make a
// full handshake, and no session of a client resumes whose CA was removed.
func TestOneClientCAReplacesAnother(t *testing.T) {
	t.Parallel()
	s := newStage(t, setup{later: true, hosts: 1})
	var cas [2]*fleet.CA
	var clients [2]*partner
	for i := range cas {
		var err error
		cas[i], err = fleet.NewCA(fmt.Sprintf("Clients %d", i+1))
		s.ok(err)
		pair, err := cas[i].Issue(fleet.Leaf{Names: []string{fmt.Sprintf("client-%d", i+1)}})
		s.ok(err)
		cert, err := tls.X509KeyPair(pair.Chain, pair.Key)
		s.ok(err)
		clients[i] = &partner{
			name: fmt.Sprintf("client of CA %d", i+1), cert: cert, at: map[*envoy]map[uint16]tls.ClientSessionCache{},
		}
	}
	one, two := cas[0].PEM(), cas[1].PEM()
	s.file("lockstep.yaml", fmt.Appendf(nil, "refresh: 1s\nscopes:\n  default:\n"+
		"    ticket_lifetime: %s\n    client_certs: [%s, %s]\n",
		lifetime, fingerprint(one), fingerprint(two)))
	addr := s.listen("  hosts: [" + s.hosts[0] + "]\n")
	b, err := os.ReadFile(s.path("listener.yaml"))
	s.ok(err)
	plain, _, _ := strings.Cut(string(b), "  # What TLS")
	ca := s.path("clients.pem")
	trust := func(bundle []byte) {
		s.t.Helper()
		s.ok(os.WriteFile(ca+".new", bundle, 0o600))
		s.ok(os.Rename(ca+".new", ca))
		s.ok(os.WriteFile(s.path("listener.new"), fmt.Appendf(nil, `%s  transport_socket:
    name: envoy.transport_sockets.tls
    typed_config:
      "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext
      require_client_certificate: true
      common_tls_context: {validation_context: {trusted_ca: {inline_string: %q}}}
`, plain, bundle), 0o600))
		s.ok(os.Rename(s.path("listener.new"), s.path("listener.yaml")))
	}
	trust(one)
	s.start()
	theirs, ours := s.hybrid("envoy-1", addr), s.place("edge-1")
	ours.Process, err = s.fleet.Edge(bin, "edge-1", fmt.Appendf(nil, "node: edge-1\nxds: %q\nadmin_listen: %q\n"+
		"ticket_lifetime: %s\nlisteners: [{address: %q, client_ca: %q}]\nroutes: [{upstreams: [\"http://%s\"]}]\n",
		s.plane.XDS, ours.admin, lifetime, ours.addr, ca, s.upstream.Addr), ours.admin)
	s.ok(err)
	s.envoys = append(s.envoys, ours)
	s.awaitReady()
	const taken = "a new process has taken over"
	t.Cleanup(func() {
		for _, pid := range ours.logged(taken, "pid") {
			if id := 0; scan(pid, &id) == nil {
				syscall.Kill(id, syscall.SIGKILL)
			}
		}
	})
	reloaded := 0
	change := func(bundle []byte) {
		s.t.Helper()
		trust(bundle)
		pid := ours.PID()
		if all := ours.logged(taken, "pid"); len(all) > 0 {
			s.ok(scan(all[len(all)-1], &pid))
		}
		s.ok(syscall.Kill(pid, syscall.SIGHUP))
		reloaded++
		s.eventually(func() error {
			if n := len(ours.logged(taken, "pid")); n != reloaded {
				return fmt.Errorf("%d processes have taken over: %s", n, ours.LogTail(5))
			}
			return nil
		})
	}
	both := append(append([]byte("# the old one and the new one\n"), one...), two...)
	for i, step := range []struct {
		bundle []byte
		let    [2]bool
	}{
		{one, [2]bool{true, false}}, {both, [2]bool{true, true}},
		{one, [2]bool{true, false}}, // the new one is removed, and stands behind the old one
		{append(both, one...), [2]bool{true, true}},
		{two, [2]bool{false, true}}, // the old one is removed
	} {
		if i > 0 {
			change(step.bundle)
		}
		if i == 3 { // sessions of step 1 are those of the same CAs
			for _, p := range clients {
				clear(p.at)
			}
		}
		for _, e := range []*envoy{theirs, ours} {
			let := map[*partner]bool{}
			for i, p := range clients {
				let[&partner{name: p.name, cert: p.cert, before: p.at[e]}] = step.let[i]
			}
			s.inForce(e, let)
			for i, p := range clients {
				if step.let[i] {
					one := &partner{name: p.name, cert: p.cert}
					s.keeps(e, one)
					p.at[e] = one.before
				}
			}
		}
	}
	// A CA that the scope does not declare is refused, and what was served stays.
	third, err := fleet.NewCA("Clients 3")
	s.ok(err)
	trust(third.PEM())
	s.eventually(func() error {
		if r := s.lockstep("status"); !strings.Contains(r.out+r.err, "declares another CA") {
			return fmt.Errorf("status: %s%s", r.out, r.err)
		}
		return nil
	})
	if _, err := s.enters(theirs, clients[1], tls.VersionTLS13, nil); err != nil {
		t.Error(err)
	}
}
