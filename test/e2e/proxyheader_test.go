package e2e

import (
	"bufio"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"github.com/pires/go-proxyproto"

	"github.com/lockstep-tls/lockstep/test/fleet"
)

// behindProxies is an Envoy that demands the PROXY protocol.
const behindProxies = `
admin: {address: {socket_address: {address: 127.0.0.1, port_value: %[1]s}}}
static_resources:
  clusters:
  - name: up
    type: STATIC
    load_assignment:
      cluster_name: up
      endpoints:
      - lb_endpoints: [{endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: %[3]s}}}}]
  listeners:
  - name: tls
    address: {socket_address: {address: 127.0.0.1, port_value: %[2]s}}
    listener_filters:
    - name: proxy
      typed_config:
        "@type": type.googleapis.com/envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol
    filter_chains:
    - transport_socket:
        name: tls
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext
          common_tls_context:
            tls_certificates: [{certificate_chain: {filename: "%[4]s/tls.crt"}, private_key: {filename: "%[4]s/tls.key"}}]
      filters:
      - name: http
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: x
          route_config:
            request_headers_to_add:
            - {header: {key: x-real-ip, value: "%%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%%"}}
            virtual_hosts: [{name: x, domains: ["*"], routes: [{match: {prefix: /}, route: {cluster: up}}]}]
          http_filters:
          - name: router
            typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}
`

// proxyHeadersAlike are headers that an edge reads as Envoy does. They differ in three: Envoy takes
// a wrong checksum and more TLVs, and refuses a client that has no IP address.
func proxyHeadersAlike() [][]byte {
	v2 := func(command, family byte, rest ...byte) []byte {
		return slices.Concat(proxyproto.SIGV2, []byte{command, family},
			binary.BigEndian.AppendUint16(nil, uint16(len(rest))), rest)
	}
	ip4 := []byte{192, 0, 2, 7, 10, 0, 0, 1, 0x30, 0x39, 0x01, 0xbb}
	ip6 := slices.Concat(net.ParseIP("2001:db8::7"), net.ParseIP("2001:db8::1"), ip4[8:])
	const local, onBehalf, tcp4, udp4, tcp6, udp6 = 0x20, 0x21, 0x11, 0x12, 0x21, 0x22
	out := [][]byte{
		v2(local, 0), v2(local, tcp4, ip4...), v2(local, tcp4), v2(local, 0, 4, 0, 1, 0),
		v2(onBehalf, tcp4, ip4...), v2(onBehalf, udp4, ip4...), v2(onBehalf, tcp6, ip6...), v2(onBehalf, udp6, ip6...),
		v2(onBehalf, tcp4, append(slices.Clone(ip4), 2, 0, 1, 'x', 4, 0, 0, 0xea, 0, 2, 1, 2)...),
		// refused by both
		{}, v2(onBehalf, tcp4, ip4[:8]...), v2(onBehalf, 0x41, ip4...), v2(onBehalf, 0x13, ip4...),
		v2(0x31, tcp4, ip4...), v2(0x22, tcp4, ip4...), v2(onBehalf, tcp4, append(slices.Clone(ip4), 2)...),
		v2(onBehalf, tcp4, append(slices.Clone(ip4), 2, 0, 9, 'x')...),
	}
	for _, line := range []string{
		"PROXY UNKNOWN\r\n", "PROXY UNKNOWN ffff::1 ffff::2 65535 65535\r\n",
		"PROXY TCP4 192.0.2.7 10.0.0.1 12345 443\r\n", "PROXY TCP6 2001:db8::7 2001:db8::1 12345 443\r\n",
		// refused by both
		"PROXY TCP4\r\n", "PROXY TCP4 192.0.2.7 10.0.0.1 12345 443\n", "PROXY TCP4  192.0.2.7 10.0.0.1 12345 443\r\n",
		"PROXY TCP4 2001:db8::7 2001:db8::1 12345 443\r\n", "PROXY TCP4 192.0.2.7 10.0.0.1 65536 443\r\n",
		"PROXY TCP4 192.0.02.7 10.0.0.1 12345 443\r\n", "proxy TCP4 192.0.2.7 10.0.0.1 12345 443\r\n",
		"PROXY UDP4 192.0.2.7 10.0.0.1 12345 443\r\n", "GET / HTTP/1.1\r\n\r\n",
	} {
		out = append(out, []byte(line))
	}
	return out
}

// TestAHeaderOfTheProxyProtocolIsReadAsByEnvoy: upstreams are told the same client, or the
// connection is closed.
func TestAHeaderOfTheProxyProtocolIsReadAsByEnvoy(t *testing.T) {
	t.Parallel()
	s := newStage(t, setup{hosts: 1})
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, r.Header.Get("X-Real-Ip"))
	}))
	t.Cleanup(up.Close)
	port := func(addr string) string {
		_, p, err := net.SplitHostPort(addr)
		s.ok(err)
		return p
	}
	theirs, ours := s.place("envoy"), s.place("edge")
	s.run(theirs, fmt.Appendf(nil, behindProxies, port(theirs.admin), port(theirs.addr),
		port(up.Listener.Addr().String()), fleet.HostDir(s.certs, s.hosts[0])))
	var err error
	ours.Process, err = s.fleet.Edge(bin, "edge", fmt.Appendf(nil, "node: edge\nxds: %q\nadmin_listen: %q\n"+
		"listeners: [{address: %q, proxy_protocol: [127.0.0.0/8]}]\nroutes: [{upstreams: [%q]}]\n",
		s.plane.XDS, ours.admin, ours.addr, up.URL), ours.admin)
	s.ok(err)
	s.envoys = append(s.envoys, ours)
	s.awaitReady()
	ask := func(e *envoy, header []byte) string {
		c, err := net.Dial("tcp", e.addr)
		s.ok(err)
		defer c.Close()
		c.SetDeadline(time.Now().Add(20 * time.Second))
		c.Write(header) // it may be closed already
		tunnel := tls.Client(c, &tls.Config{RootCAs: s.ca.Pool(), ServerName: s.hosts[0]})
		if err := tunnel.Handshake(); err != nil {
			return "closed"
		}
		_, err = io.WriteString(tunnel, "GET / HTTP/1.1\r\nConnection: close\r\nHost: "+s.hosts[0]+"\r\n\r\n")
		s.ok(err)
		resp, err := http.ReadResponse(bufio.NewReader(tunnel), nil)
		s.ok(err)
		b, err := io.ReadAll(resp.Body)
		s.ok(err)
		return fmt.Sprintf("%d %s", resp.StatusCode, b)
	}
	seen := map[string]int{}
	for _, header := range proxyHeadersAlike() {
		want, got := ask(theirs, header), ask(ours, header)
		if got != want {
			t.Errorf("%q: %s, by Envoy %s", header, got, want)
		}
		seen[got]++
	}
	if len(seen) != 4 || seen["closed"] != 17 { // of two families, of the balancer itself, and none
		t.Errorf("the headers are not what they are to be: %v", seen)
	}
}
