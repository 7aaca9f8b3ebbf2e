package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml"

	"github.com/lockstep-tls/lockstep/test/fleet"
)

// tree is YAML or JSON without a type.
type tree = map[string]any

// gateway is an Envoy as somebody else's control plane makes it, from testdata/external, with what
// the pages in deploy/ have users apply.
type gateway struct {
	Node     tree
	Clusters []any // by CDS
	Listener tree  // by LDS, without its chains
	TLS      tree  `yaml:"tls"` // of a chain; HOST stands for its host
	static   tree
}

// abroad is what a user's files and paths are called here.
type abroad struct {
	*stage
	sockets string // for short paths: a socket's may have 107 bytes
	here    *strings.Replacer
}

// abroad makes the files of a node with an identity, and replaces what names them.
func (s *stage) abroad(pki, identity string) abroad {
	s.t.Helper()
	etc := s.path("etc-" + identity)
	s.ok(os.MkdirAll(etc, 0o755))
	s.ok(os.CopyFS(filepath.Join(etc, "identity"), os.DirFS(filepath.Join(pki, "nodes", identity))))
	ca, err := os.ReadFile(filepath.Join(pki, "ca.crt"))
	s.ok(err)
	s.ok(os.WriteFile(filepath.Join(etc, "ca.pem"), ca, 0o644))
	own := s.deployed("envoy/mtls-identity.yaml")
	s.ok(os.WriteFile(filepath.Join(etc, "mtls-identity.yaml"),
		[]byte(strings.ReplaceAll(own, "/etc/lockstep", etc)), 0o644))
	sockets, err := os.MkdirTemp("", "sds")
	s.ok(err)
	s.t.Cleanup(func() { os.RemoveAll(sockets) })
	ip, port, err := net.SplitHostPort(s.plane.XDS)
	s.ok(err)
	return abroad{s, sockets, strings.NewReplacer(
		"/etc/lockstep", etc, "/run/lockstep/sds.sock", sockets+"/s",
		"./var/run/secrets/credential-uds/socket", sockets+"/s",
		`address: "lockstep.internal", port_value: 18000`, fmt.Sprintf("address: %q, port_value: %s", ip, port),
		`"address": "lockstep.internal", "port_value": 18000`, fmt.Sprintf(`"address": %q, "port_value": %s`, ip, port),
	)}
}

// deployed is a file of deploy/.
func (s *stage) deployed(name string) string {
	s.t.Helper()
	root, err := fleet.Root()
	s.ok(err)
	b, err := os.ReadFile(filepath.Join(root, "deploy", name))
	s.ok(err)
	return string(b)
}

// gateway reads what a control plane makes.
func (a abroad) gateway(name string) (g gateway) {
	a.t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", "external", name+".yaml"))
	a.ok(err)
	a.ok(yaml.UnmarshalWithOptions([]byte(a.here.Replace(string(b))), &g, yaml.Strict()))
	return g
}

// json is a file of deploy/ in JSON.
func (a abroad) json(name string) (v tree) {
	a.t.Helper()
	a.ok(json.Unmarshal([]byte(a.here.Replace(a.deployed(name))), &v))
	return v
}

func (s *stage) clone(v tree) (c tree) {
	s.t.Helper()
	b, err := json.Marshal(v)
	s.ok(err)
	s.ok(json.Unmarshal(b, &c))
	return c
}

const tlsType = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext"

// chains makes a filter chain for each host.
func (a abroad) chains(g gateway, hosts []string) (chains []any) {
	a.t.Helper()
	for _, h := range hosts {
		b, err := json.Marshal(g.TLS)
		a.ok(err)
		context := tree{}
		a.ok(json.Unmarshal([]byte(strings.ReplaceAll(string(b), "HOST", h)), &context))
		context["@type"] = tlsType
		chains = append(chains, tree{
			"name": h, "filter_chain_match": tree{"server_names": []any{h}},
			"transport_socket": tree{"name": "envoy.transport_sockets.tls", "typed_config": context},
			"filters": []any{tree{"name": "envoy.filters.network.http_connection_manager", "typed_config": tree{
				"@type":       "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
				"stat_prefix": "https",
				"http_filters": []any{tree{"name": "envoy.filters.http.router", "typed_config": tree{
					"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router",
				}}},
				"route_config": answers,
			}}},
		})
	}
	return chains
}

var (
	answers = tree{"virtual_hosts": []any{tree{
		"name": "all", "domains": []any{"*"},
		"routes": []any{tree{"match": tree{"prefix": "/"}, "direct_response": tree{"status": 200}}},
	}}}
	sniff = []any{tree{"name": "envoy.filters.listener.tls_inspector", "typed_config": tree{
		"@type": "type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector",
	}}}
)

func socketAddress(addr string) tree {
	ip, port, _ := net.SplitHostPort(addr)
	n, _ := strconv.Atoi(port)
	return tree{"socket_address": tree{"address": ip, "port_value": n}}
}

// raise starts the Envoy. Clusters and listeners come as the control plane sends them, dynamically,
// here from files.
func (a abroad) raise(name string, g gateway, chains []any) *envoy {
	a.t.Helper()
	e := a.place(g.Node["id"].(string))
	l := tree{
		"@type": "type.googleapis.com/envoy.config.listener.v3.Listener", "address": socketAddress(e.addr),
		"listener_filters": sniff, "filter_chains": chains,
	}
	maps.Copy(l, g.Listener)
	deliver := func(kind string, resources ...any) tree {
		b, err := json.Marshal(tree{"resources": resources})
		a.ok(err)
		return tree{"resource_api_version": "V3", "path_config_source": tree{"path": a.file(name+"-"+kind+".json", b)}}
	}
	config := tree{
		"node": g.Node, "admin": tree{"address": socketAddress(e.admin)},
		"dynamic_resources": tree{"cds_config": deliver("cds", g.Clusters...), "lds_config": deliver("lds", l)},
	}
	if g.static != nil {
		config["static_resources"] = g.static
	}
	b, err := json.Marshal(config)
	a.ok(err)
	a.ok(fleet.ValidateEnvoy(a.ctx, b))
	a.runAs(name, e, b)
	return e
}

// runAs starts an Envoy whose id is no name of a file.
func (s *stage) runAs(name string, e *envoy, config []byte) {
	s.t.Helper()
	var err error
	e.Process, err = s.fleet.Envoy(name, config, e.admin)
	s.ok(err)
	s.envoys = append(s.envoys, e)
}

// documents are those of a YAML file of deploy/, by kind.
func (a abroad) documents(name string) map[string]tree {
	a.t.Helper()
	all := map[string]tree{}
	for part := range strings.SplitSeq(a.deployed(name), "\n---\n") {
		var doc tree
		if a.ok(yaml.Unmarshal([]byte(part), &doc)); doc != nil {
			all[doc["kind"].(string)] = doc
		}
	}
	return all
}

// at goes down into a tree.
func (s *stage) at(v any, path ...any) any {
	s.t.Helper()
	for _, p := range path {
		switch p := p.(type) {
		case string:
			m, ok := v.(tree)
			if !ok || m[p] == nil {
				s.t.Fatalf("there is no %v in %v", p, v)
			}
			v = m[p]
		case int:
			v = v.([]any)[p]
		}
	}
	return v
}

// merge is what proto.Merge does to messages without repeated fields.
func merge(into, from tree) {
	for k, v := range from {
		if deep, ok := v.(tree); ok {
			if have, ok := into[k].(tree); ok {
				merge(have, deep)
				continue
			}
		}
		into[k] = v
	}
}

// patched applies the EnvoyPatchPolicy of tickets.yaml: of its JSONPath, the one that stands there.
func (a abroad) patched(g gateway, chains []any) []any {
	a.t.Helper()
	patch := a.at(a.documents("envoy-gateway/tickets.yaml")["EnvoyPatchPolicy"], "spec", "jsonPatches", 0).(tree)
	if name := a.at(patch, "name"); name != g.Listener["name"] ||
		a.at(patch, "operation", "jsonPath") != "$.filter_chains[*].transport_socket.typed_config" {
		a.t.Fatalf("this patch is not the one that this test can apply: %v", patch)
	}
	for _, c := range chains {
		a.at(c, "transport_socket", "typed_config").(tree)[a.at(patch, "operation",
			"path").(string)] = a.clone(a.at(patch, "operation", "value").(tree))
	}
	return chains
}

// filtered applies the EnvoyFilter of tickets.yaml to each chain, as it would be written for each
// host.
func (a abroad) filtered(chains []any, cluster string) []any {
	a.t.Helper()
	patch := a.at(a.documents("istio/tickets.yaml")["EnvoyFilter"], "spec", "configPatches", 0, "patch", "value").(tree)
	for _, c := range chains {
		mine := a.clone(patch)
		a.at(mine, "transport_socket", "typed_config", "session_ticket_keys_sds_secret_config", "sds_config",
			"api_config_source", "grpc_services", 0, "envoy_grpc").(tree)["cluster_name"] = cluster
		merge(c.(tree), mine)
	}
	return chains
}

// tickets is the static listener of Consul's page, for these hosts, with its routes on the spot.
func (a abroad) tickets(addr string, hosts []string) tree {
	a.t.Helper()
	l := a.json("consul/tickets-listener.json")
	l["address"] = socketAddress(addr)
	one, chains := a.at(l, "filter_chains", 0).(tree), []any{}
	manager := a.at(one, "filters", 0, "typed_config").(tree)
	delete(manager, "rds")
	manager["route_config"] = answers
	for _, h := range hosts {
		b, err := json.Marshal(one)
		a.ok(err)
		c := tree{}
		a.ok(json.Unmarshal([]byte(strings.ReplaceAll(string(b), "shop.example", h)), &c))
		chains = append(chains, c)
	}
	l["filter_chains"] = chains
	return l
}
