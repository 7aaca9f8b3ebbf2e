package e2e

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/lockstep-tls/lockstep/test/fleet"
)

// toldByEnvoy is an Envoy that tells upstreams of client certificates.
const toldByEnvoy = `
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
    filter_chains:
    - transport_socket:
        name: tls
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext
          require_client_certificate: true
          common_tls_context:
            tls_certificates: [{certificate_chain: {filename: "%[4]s/tls.crt"}, private_key: {filename: "%[4]s/tls.key"}}]
            validation_context: {trusted_ca: {filename: "%[5]s"}}
      filters:
      - name: http
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: x
          forward_client_cert_details: SANITIZE_SET
          set_current_client_cert_details: {subject: true, uri: true, dns: true, cert: true}
          route_config:
            virtual_hosts: [{name: x, domains: ["*"], routes: [{match: {prefix: /}, route: {cluster: up}}]}]
          http_filters:
          - name: router
            typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}
`

// attribute is one of a subject, with the number of its string type.
func attribute(kind int, value string, id ...int) pkix.AttributeTypeAndValue {
	return pkix.AttributeTypeAndValue{Type: id, Value: asn1.RawValue{Tag: kind, Bytes: []byte(value)}}
}

// known are clients' certificates with subjects and names of many kinds. Names that Envoy does not
// quote, although they look like several fields, are left out.
func known() map[string]func(*x509.Certificate) {
	const utf8, printable, t61, ia5, bmp = 12, 19, 20, 22, 30
	subject := func(all ...pkix.AttributeTypeAndValue) func(*x509.Certificate) {
		return func(c *x509.Certificate) {
			var rdns pkix.RDNSequence
			for _, a := range all {
				rdns = append(rdns, pkix.RelativeDistinguishedNameSET{a})
			}
			c.RawSubject, _ = asn1.Marshal(rdns)
		}
	}
	out := map[string]func(*x509.Certificate){
		"empty": subject(),
		"alice": func(c *x509.Certificate) {
			subject(attribute(utf8, "alice", 2, 5, 4, 3))(c)
			c.DNSNames = []string{"alice.example", "*.alice.example", "b.example"}
		},
		"odd text": subject(attribute(utf8, " #lead \"q\" back\\slash;semi<a>+=ü\x01\x7fend ", 2, 5, 4, 3),
			attribute(t61, "caf\xe9", 2, 5, 4, 3), attribute(bmp, "\x00O\x20\xac", 2, 5, 4, 10),
			attribute(utf8, "#x", 2, 5, 4, 11), attribute(utf8, "", 2, 5, 4, 11), attribute(utf8, " ", 2, 5, 4, 11)),
		"several values": func(c *x509.Certificate) {
			c.RawSubject, _ = asn1.Marshal(pkix.RDNSequence{
				{attribute(printable, "DE", 2, 5, 4, 6)}, {attribute(utf8, "Acme, Inc.", 2, 5, 4, 10)},
				{attribute(utf8, "a", 2, 5, 4, 11), attribute(utf8, "b", 2, 5, 4, 11)},
			})
		},
		"pkcs9 and uid": subject(attribute(ia5, "example", 0, 9, 2342, 19200300, 100, 1, 25),
			attribute(utf8, "uid7", 0, 9, 2342, 19200300, 100, 1, 1),
			attribute(ia5, "m@b.example", 0, 9, 2342, 19200300, 100, 1, 3),
			attribute(ia5, "a@b.example", 1, 2, 840, 113549, 1, 9, 1),
			attribute(utf8, "host.example", 1, 2, 840, 113549, 1, 9, 2),
			attribute(utf8, "127.0.0.1", 1, 2, 840, 113549, 1, 9, 8)),
		"unknown types": subject(attribute(utf8, "x", 1, 2, 3, 4), attribute(utf8, "y", 2, 5, 4, 97),
			attribute(printable, "DE", 1, 3, 6, 1, 4, 1, 311, 60, 2, 1, 3)),
	}
	for _, id := range []int{4, 5, 6, 7, 8, 9, 12, 13, 15, 17, 18, 19, 20, 41, 42, 43, 44, 46, 65, 72} {
		out[fmt.Sprintf("2.5.4.%d", id)] = subject(attribute(printable, "DE", 2, 5, 4, id))
	}
	return out
}

// TestUpstreamsAreToldOfAClientAsByEnvoy: an edge and an Envoy with the same certificate and the
// same client CA tell upstreams the same of each client, also when its session resumes.
func TestUpstreamsAreToldOfAClientAsByEnvoy(t *testing.T) {
	t.Parallel()
	s := newStage(t, setup{later: true, hosts: 1})
	host := s.hosts[0]
	own, err := s.ca.Issue(fleet.Leaf{Names: []string{host}, URIs: []string{"spiffe://t/edge", "spiffe://t/second"}})
	s.ok(err)
	s.ok(fleet.WriteHost(s.certs, host, own))
	s.start()
	clients, err := fleet.NewCA("clients")
	s.ok(err)
	ca := s.file("clients.pem", clients.PEM())
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, strings.Join(r.Header["X-Forwarded-Client-Cert"], " and "))
	}))
	t.Cleanup(up.Close)
	port := func(addr string) string {
		_, p, err := net.SplitHostPort(addr)
		s.ok(err)
		return p
	}

	theirs, ours := s.place("envoy"), s.place("edge")
	s.run(theirs, fmt.Appendf(nil, toldByEnvoy, port(theirs.admin), port(theirs.addr),
		port(up.Listener.Addr().String()), fleet.HostDir(s.certs, host), ca))
	ours.Process, err = s.fleet.Edge(bin, "edge", fmt.Appendf(nil, "node: edge\nxds: %q\nadmin_listen: %q\n"+
		"listeners: [{address: %q, client_ca: %q, xfcc_cert: true}]\nroutes: [{upstreams: [%q]}]\n",
		s.plane.XDS, ours.admin, ours.addr, ca, up.URL), ours.admin)
	s.ok(err)
	s.envoys = append(s.envoys, ours)
	s.awaitReady()

	for what, change := range known() {
		pair, err := clients.Issue(fleet.Leaf{Change: change,
			URIs: []string{"spiffe://t/" + host, "https://a.example/?b=c#d"}})
		s.ok(err)
		cert, err := tls.X509KeyPair(pair.Chain, pair.Key)
		s.ok(err)
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			var said []string
			for _, e := range []*envoy{theirs, ours} {
				store := tls.NewLRUClientSessionCache(1)
				for _, resumes := range []bool{false, true} {
					said = append(said, s.told(e, &tls.Config{ServerName: host, RootCAs: s.ca.Pool(),
						MinVersion: version, MaxVersion: version, ClientSessionCache: store,
						Certificates: []tls.Certificate{cert}}, resumes))
				}
			}
			for _, other := range said[1:] {
				if other != said[0] || !strings.HasPrefix(other, "By=spiffe://t/edge;By=") {
					t.Errorf("%s, %s: Envoy, Envoy resumed, edge, edge resumed:\n%s", what, tls.VersionName(version),
						strings.Join(said, "\n"))
					break
				}
			}
		}
	}
}

// told returns what the upstream is told of a client. The connection must resume, or must not.
func (s *stage) told(e *envoy, c *tls.Config, resumes bool) string {
	s.t.Helper()
	resumed := false
	c.VerifyConnection = func(cs tls.ConnectionState) error { resumed = cs.DidResume; return nil }
	transport := &http.Transport{TLSClientConfig: c,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", e.addr)
		}}
	defer transport.CloseIdleConnections()
	req, err := http.NewRequestWithContext(s.ctx, "GET", "https://"+c.ServerName+"/", nil)
	s.ok(err)
	req.Header.Set("X-Forwarded-Client-Cert", "Hash=of-a-liar")
	resp, err := transport.RoundTrip(req)
	s.ok(err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	s.ok(err)
	if resp.StatusCode != http.StatusOK || resumed != resumes {
		s.t.Errorf("%s: %s, resumed %t, expected %t", e.name, resp.Status, resumed, resumes)
	}
	return string(b)
}
