package e2e

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-tls/lockstep/test/fleet"
	"github.com/lockstep-tls/lockstep/test/traffic"
)

// address issues a certificate for an IP address.
func (s *stage) address(ip string) fleet.Pair {
	s.t.Helper()
	p, err := s.ca.Issue(fleet.Leaf{IPs: []string{ip}})
	s.ok(err)
	return p
}

// asked makes a request of a client that checks the certificate. The host is an IP address, or a
// name that is looked for at the node.
func (s *stage) asked(e *envoy, host string) error {
	c := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true,
		TLSClientConfig: &tls.Config{RootCAs: s.ca.Pool()},
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", e.addr)
		}}}
	_, port, _ := net.SplitHostPort(e.addr)
	resp, err := c.Get("https://" + net.JoinHostPort(host, port) + "/")
	if err != nil {
		return fmt.Errorf("%s: %w", e.name, err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s for %s", e.name, resp.Status, host)
	}
	return nil
}

// TestAnAddressIsAHostLikeAnyOther: clients without a server name get the certificate of the
// address to which they connect, from each kind of node, and their sessions resume. Others are
// served as before.
func TestAnAddressIsAHostLikeAnyOther(t *testing.T) {
	t.Parallel()
	const loopback = "127.0.0.1"
	s := newStage(t, setup{hosts: 1, later: true})
	name := s.hosts[0]
	s.ok(fleet.WriteHost(s.certs, loopback, s.address(loopback)))
	s.ok(fleet.WriteHost(s.certs, "*.wild.example", s.issue("*.wild.example")))
	addr := s.listen(fmt.Sprintf("  hosts: [%q, %s]\n", loopback, name))
	s.start()

	hybrid := s.hybrid("edge-1", addr)
	s.hosts = append(s.hosts, loopback)
	eager := s.envoy("edge-2")
	demand := s.place("edge-3")
	config, err := s.fleet.Run(s.ctx, filepath.Join(bin, "lockstep"), "bootstrap", "envoy", "--mode", "on-demand",
		"--node", demand.name, "--xds", s.plane.XDS, "--admin", demand.admin, "--listen", demand.addr,
		"--upstream", s.upstream.Addr, "--fallback", loopback)
	s.ok(err)
	s.run(demand, config)
	bundled := s.edge("edge-4", "")
	s.awaitReady()
	for _, e := range []*envoy{hybrid, eager, demand, bundled} {
		for _, host := range []string{loopback, name, "a_b.wild.example", "1a.wild.example", "A_-B.Wild.Example",
			"xn--bcher-kva.wild.example", strings.Repeat("a", 63) + ".wild.example"} {
			if e == eager && host != loopback && host != name {
				continue // it has no chain for it
			}
			s.eventually(func() error { return s.asked(e, host) })
		}
	}
	verify := []string{"verify", "--ca", s.path("ca.pem"), "--sni", loopback}
	for _, version := range []string{"TLS 1.2", "TLS 1.3"} {
		if out := s.mustRun(append(verify, hybrid.addr, eager.addr)...); !strings.Contains(out,
			version+": 4 of 4 sessions resumed") {
			t.Errorf("Envoys do not share the sessions of an address: %s", out)
		}
		if out := s.mustRun(append(verify, bundled.addr)...); !strings.Contains(out,
			version+": 1 of 1 sessions resumed") {
			t.Errorf("the edge does not resume the sessions of an address: %s", out)
		}
	}

	for _, at := range []string{"cert", "host"} {
		if out := s.mustRun(at, "list"); !strings.Contains(out, loopback) {
			t.Errorf("%s list: %s", at, out)
		}
	}
	out := s.mustRun("explain", loopback)
	for _, e := range []*envoy{hybrid, eager, demand, bundled} {
		if !strings.Contains(out, "gets the certificate of 127.0.0.1") || !strings.Contains(out, e.name) {
			t.Errorf("explain lacks %s: %s", e.name, out)
		}
	}
	// clients that send the address as a server name, although they must not
	var k traffic.Knocker
	for _, e := range []*envoy{hybrid, demand, bundled} {
		if a, err := k.Knock(s.ctx, e.addr, "", loopback); err != nil || a != traffic.Taken {
			t.Errorf("%s, the address as a server name: %v, %v", e.name, a, err)
		}
	}

	// IPv6 has one spelling, whatever is written
	if out := s.writePair("[2001:DB8:0::1]", s.address("2001:db8::1")); !strings.Contains(out, `"2001:db8::1"`) {
		t.Errorf("cert put: %s", out)
	}
	if out := s.mustRun("explain", "2001:0db8::0001"); !strings.Contains(out,
		"gets the certificate of 2001:db8::1 from the store") {
		t.Errorf("explain: %s", out)
	}
	s.mustRun("plan", "--cert", "2001:db8::1", "--chain", s.path("put.crt"))
	s.mustFail(5, "not for 127.0.0.2", "cert", "put", "127.0.0.2",
		"--cert", s.path("put.crt"), "--key", s.path("put.key"))
	s.mustRun("cert", "rm", "[2001:db8::1]")
}
