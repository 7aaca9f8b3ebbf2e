package e2e

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"
)

// edgesBehind starts two edges with a listener for a balancer of this machine, and one without.
func (s *stage) edgesBehind() (behind, open [2]*envoy) {
	s.t.Helper()
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
		behind[i], open[i] = e, plain
	}
	s.awaitReady()
	s.awaitPhase("steady", 2)
	return behind, open
}

// seen returns nil if the edge's log names a client of that address, behind a balancer.
func (e *envoy) seen(client string) error {
	remotes, balancers := e.logged("request", "remote"), e.logged("request", "balancer")
	for i, remote := range remotes {
		if host, _, _ := net.SplitHostPort(remote); host == client && strings.HasPrefix(balancers[i], "127.0.0.1:") {
			return nil
		}
	}
	return fmt.Errorf("%s: clients %q by balancers %q", e.name, remotes, balancers)
}

// TestAnEdgeBehindABalancer: edges that demand the PROXY protocol are verified with a header, and
// answer a health check that names no server and no host. A second listener, for which no network
// is named, is as before.
func TestAnEdgeBehindABalancer(t *testing.T) {
	t.Parallel()
	s := newStage(t, setup{hosts: 1})
	behind, open := s.edgesBehind()
	s.mustFail(1, "--proxy-protocol", s.verify(behind[:]...)...)
	s.mustFail(1, "did not resume", append(s.verify(open[:]...), "--proxy-protocol")...)
	for _, args := range [][]string{append(s.verify(behind[:]...), "--proxy-protocol"),
		append(s.verify(behind[:]...), "--proxy-protocol=v1"), s.verify(open[:]...)} {
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
	s.eventually(func() error { return behind[0].seen("2001:db8::7") })
}

// TestHAProxyInFrontOfEdges: HAProxy as in deploy/haproxy finds the edges well, and tells them its
// clients. Their sessions resume through it. When an edge dies, clients go to the other one.
func TestHAProxyInFrontOfEdges(t *testing.T) {
	t.Parallel()
	s := newStage(t, setup{hosts: 1})
	edges, _ := s.edgesBehind()
	front := s.place("haproxy")
	var err error
	front.Process, err = s.fleet.HAProxy(front.addr, [2]string{edges[0].addr, edges[1].addr})
	s.ok(err)
	s.eventually(front.listens)
	store := tls.NewLRUClientSessionCache(1)
	get := func() (resumed bool, err error) {
		from := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 77)}, Timeout: 10 * time.Second}
		c, err := tls.DialWithDialer(&from, "tcp", front.addr, &tls.Config{RootCAs: s.ca.Pool(), ServerName: s.hosts[0],
			ClientSessionCache: store})
		if err != nil {
			return false, err
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(10 * time.Second))
		if _, err := io.WriteString(c, "GET / HTTP/1.0\r\nHost: "+s.hosts[0]+"\r\n\r\n"); err != nil {
			return false, err
		}
		answer, err := io.ReadAll(c)
		if err == nil && !strings.HasPrefix(string(answer), "HTTP/1.0 200 OK\r\n") {
			err = fmt.Errorf("%q", answer)
		}
		return c.ConnectionState().DidResume, err
	}
	s.eventually(func() error {
		resumed, err := get()
		if err != nil || !resumed {
			return fmt.Errorf("resumed: %t, %w", resumed, err)
		}
		return errors.Join(edges[0].seen("127.0.0.77"), edges[1].seen("127.0.0.77"))
	})
	s.ok(edges[0].Kill())
	for range 5 {
		if resumed, err := get(); err != nil || !resumed {
			t.Errorf("after the death of an edge: resumed: %t, %v", resumed, err)
		}
	}
	s.eventually(func() error {
		if log, _ := os.ReadFile(front.LogFile()); !strings.Contains(string(log), "edge-1 is DOWN") {
			return fmt.Errorf("HAProxy has not noticed: %s", log)
		}
		return nil
	})
}
