package e2e

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// TestAnEdgeBehindABalancer: edges that demand the PROXY protocol are verified with a header, and
// answer a health check that names no server and no host. A second listener, for which no network
// is named, is as before.
func TestAnEdgeBehindABalancer(t *testing.T) {
	t.Parallel()
	s := newStage(t, setup{hosts: 1})
	var behind, open []*envoy
	for i := range 2 {
		e, plain := s.place(fmt.Sprintf("edge-%d", i+1)), s.place("open")
		var err error
		e.Process, err = s.fleet.Edge(bin, e.name, fmt.Appendf(nil, "node: %s\nxds: %q\nadmin_listen: %q\n"+
			"listeners:\n- {address: %q, proxy_protocol: [127.0.0.0/8], health_path: /-/healthy}\n- {address: %q}\n"+
			"routes: [{upstreams: [%q]}]\n",
			e.name, s.plane.XDS, e.admin, e.addr, plain.addr, "http://"+s.upstream.Addr), e.admin)
		s.ok(err)
		plain.Process = e.Process
		s.envoys = append(s.envoys, e)
		behind, open = append(behind, e), append(open, plain)
	}
	s.awaitReady()
	s.awaitPhase("steady", 2)
	s.mustFail(1, "--proxy-protocol", s.verify(behind...)...)
	s.mustFail(1, "did not resume", append(s.verify(open...), "--proxy-protocol")...)
	for _, args := range [][]string{append(s.verify(behind...), "--proxy-protocol"),
		append(s.verify(behind...), "--proxy-protocol=v1"), s.verify(open...)} {
		if out := s.mustRun(args...); strings.Count(out, "4 of 4 sessions resumed") != 2 {
			t.Errorf("%q: %s", args, out)
		}
	}
	for _, header := range []string{"PROXY UNKNOWN\r\n", "PROXY TCP4 192.0.2.7 10.0.0.1 12345 443\r\n"} {
		c, err := net.Dial("tcp", behind[0].addr)
		s.ok(err)
		defer c.Close()
		c.SetDeadline(time.Now().Add(20 * time.Second))
		tunnel := tls.Client(c, &tls.Config{InsecureSkipVerify: true})
		_, err = io.WriteString(c, header)
		s.ok(err)
		_, err = io.WriteString(tunnel, "GET /-/healthy HTTP/1.0\r\n\r\n")
		s.ok(err)
		answer, err := io.ReadAll(tunnel)
		s.ok(err)
		got := string(answer)
		if !strings.HasPrefix(got, "HTTP/1.0 200 OK\r\n") || !strings.HasSuffix(got, "\r\nok\n") {
			t.Errorf("after %q: %q", header, got)
		}
	}
	// What logs clients by their address sees the one in the header.
	c, err := net.Dial("tcp", behind[0].addr)
	s.ok(err)
	defer c.Close()
	c.SetDeadline(time.Now().Add(20 * time.Second))
	_, err = io.WriteString(c, "PROXY TCP6 2001:db8::7 2001:db8::1 12345 443\r\n")
	s.ok(err)
	tunnel := tls.Client(c, &tls.Config{RootCAs: s.ca.Pool(), ServerName: s.hosts[0]})
	_, err = io.WriteString(tunnel, "GET / HTTP/1.0\r\nHost: "+s.hosts[0]+"\r\n\r\n")
	s.ok(err)
	_, err = io.ReadAll(tunnel)
	s.ok(err)
	s.eventually(func() error {
		remotes, balancers := behind[0].logged("request", "remote"), behind[0].logged("request", "balancer")
		for i, remote := range remotes {
			if remote == "[2001:db8::7]:12345" && strings.HasPrefix(balancers[i], "127.0.0.1:") {
				return nil
			}
		}
		return fmt.Errorf("clients %q by balancers %q", remotes, balancers)
	})
}
