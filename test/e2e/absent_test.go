package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// meshEnvoy starts an Envoy that asks for secrets as a mesh has it do: a filter chain for each
// certificate, and its CA by a secret of its own.
func (s *stage) meshEnvoy(name string, pairs ...[2]string) *envoy {
	s.t.Helper()
	e := s.place(name)
	source := "{resource_api_version: V3, initial_fetch_timeout: 1s, api_config_source: {api_type: GRPC, " +
		"transport_api_version: V3, grpc_services: [{envoy_grpc: {cluster_name: sds}}]}}"
	var chains strings.Builder
	for i, pair := range pairs {
		ca := ""
		if pair[1] != "" {
			ca = fmt.Sprintf(", combined_validation_context: {default_validation_context: {}, "+
				"validation_context_sds_secret_config: {name: %q, sds_config: %s}}", pair[1], source)
		}
		fmt.Fprintf(&chains, `    - filter_chain_match: {server_names: [%q]}
      filters:
      - name: tcp
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy
          stat_prefix: t
          cluster: up
      transport_socket:
        name: envoy.transport_sockets.tls
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext
          common_tls_context: {tls_certificate_sds_secret_configs: [{name: %q, sds_config: %s}]%s}
`, fmt.Sprintf("host-%d.example", i+1), pair[0], source, ca)
	}
	host, port, _ := strings.Cut(e.addr, ":")
	adminHost, adminPort, _ := strings.Cut(e.admin, ":")
	upHost, upPort, _ := strings.Cut(s.upstream.Addr, ":")
	s.run(e, fmt.Appendf(nil, `node: {id: %q, cluster: mesh}
admin: {address: {socket_address: {address: %q, port_value: %s}}}
static_resources:
  listeners:
  - name: l
    address: {socket_address: {address: %q, port_value: %s}}
    listener_filters:
    - name: tls
      typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector}
    filter_chains:
%s  clusters:
  - name: up
    load_assignment: {cluster_name: up, endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: %q, port_value: %s}}}}]}]}
  - name: sds
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: {http2_protocol_options: {}}
    load_assignment: {cluster_name: sds, endpoints: [{lb_endpoints: [{endpoint: {address: {pipe: {path: %q}}}}]}]}
`, name, adminHost, adminPort, host, port, chains.String(), upHost, upPort, strings.TrimPrefix(s.plane.XDS, "unix:")))
	return e
}

// TestWhatMeshesAskForIsNamedAsAbsent: secrets that a mesh has its Envoys ask for, and that
// lockstepd does not have, are in the log and in nodes, with what to do.
func TestWhatMeshesAskForIsNamedAsAbsent(t *testing.T) {
	t.Parallel()
	s := newStage(t, setup{})
	s.meshEnvoy("istio-1", [2]string{"default", "ROOTCA"}, [2]string{"kubernetes://shop", "kubernetes://shop-cacert"})
	s.meshEnvoy("istio-2", [2]string{"file-cert:/etc/c.pem~/etc/k.pem", "file-root:/etc/ca.pem"},
		[2]string{s.hosts[0], ""}, [2]string{"gone.example", ""})
	want := map[string]map[string]string{
		"istio-1": {
			"default": "certificate of a workload", "ROOTCA": "set of CA certificates",
			"kubernetes://shop":        "Secret or ConfigMap of Kubernetes",
			"kubernetes://shop-cacert": "set of CA certificates",
		},
		"istio-2": {
			"file-cert:/etc/c.pem~/etc/k.pem": "file of the node", "file-root:/etc/ca.pem": "set of CA certificates",
		},
	}
	absent := func(args ...string) (all map[string]map[string]string, err error) {
		var n struct {
			Nodes []struct {
				Node    string
				Secrets []struct{ Name, State, Note string }
			}
		}
		all = map[string]map[string]string{}
		err = s.show(&n, append([]string{"nodes"}, args...)...)
		for _, n := range n.Nodes {
			all[n.Node] = map[string]string{}
			for _, secret := range n.Secrets {
				if secret.State == "absent" {
					all[n.Node][secret.Name] = secret.Note
				}
			}
		}
		return all, err
	}
	s.eventually(func() error {
		all, err := absent()
		for node, secrets := range want {
			if len(all[node]) != len(secrets) {
				return fmt.Errorf("%s: %v, want %v; %v", node, all[node], secrets, err)
			}
			for name, words := range secrets {
				if !strings.Contains(all[node][name], words) {
					return fmt.Errorf("%s of %s: %q, want %q in it", name, node, all[node][name], words)
				}
			}
		}
		return err
	})
	// One node is shown with all that it lacks, hosts too.
	one, err := absent("istio-2")
	s.ok(err)
	if note := one["istio-2"]["gone.example"]; !strings.Contains(note, "lockstep explain gone.example") {
		t.Errorf("a host without a certificate: %v", one)
	}
	if out := s.mustRun("nodes"); !strings.Contains(out, "asks for ROOTCA, default, kubernetes://shop and 1 more") {
		t.Errorf("nodes: %s", out)
	}
	if out := s.mustRun("nodes", "istio-1"); !strings.Contains(out, "absent: it is a set of CA certificates") {
		t.Errorf("nodes istio-1: %s", out)
	}
	if out := s.mustRun("nodes", "istio-2"); !strings.Contains(out, s.hosts[0]) {
		t.Errorf("what it has is not shown: %s", out)
	}
	s.eventually(func() error {
		lines := logged(s.plane.LogFile(), "a node asks for a secret that lockstepd does not have", "name")
		slices.Sort(lines)
		if got := strings.Join(lines, " "); got != "ROOTCA default file-cert:/etc/c.pem~/etc/k.pem "+
			"file-root:/etc/ca.pem kubernetes://shop kubernetes://shop-cacert" {
			return fmt.Errorf("the log names %s", got)
		}
		return nil
	})
}
