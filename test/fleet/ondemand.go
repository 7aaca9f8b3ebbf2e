package fleet

import (
	"bytes"
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// OnDemand says how deploy/envoy/on-demand.yaml is to be changed for a test: an Envoy with an eager
// chain for one host, whose ring comes by the SDS service, and an on-demand chain for every other
// name.
type OnDemand struct {
	Node     string
	XDS      string // host:port of the control plane, as the others, or unix:/path
	Admin    string
	Listen   string
	Upstream string
	Host     string // the eager one; "" is shop.example
	// on-demand certificates by the SDS service, a stream for each name, instead of ADS
	SDS bool
}

const overSDS = `{resource_api_version: V3, api_config_source: {` +
	`api_type: DELTA_GRPC, transport_api_version: V3, grpc_services: [{envoy_grpc: {cluster_name: "lockstep", ` +
	`retry_policy: {retry_back_off: {base_interval: "0.2s", max_interval: "2s"}}}}]}}`

// Config returns the bootstrap.
func (o OnDemand) Config() ([]byte, error) {
	root, err := Root()
	if err != nil {
		return nil, err
	}
	b, err := os.ReadFile(filepath.Join(root, "deploy", "envoy", "on-demand.yaml"))
	if err != nil {
		return nil, fmt.Errorf("fleet: %w", err)
	}
	source := "config_source: {ads: {}, resource_api_version: V3}"
	changes := []struct{ old, new string }{
		{`id: "edge-1"`, fmt.Sprintf("id: %q", o.Node)},
		{`{pipe: {path: "/run/lockstep/xds.sock"}}`, control(o.XDS)},
		{socket("127.0.0.1:19000"), socket(o.Admin)},
		{socket("127.0.0.1:18443"), socket(o.Listen)},
		{socket("127.0.0.1:8080"), socket(o.Upstream)},
		{`"shop.example"`, fmt.Sprintf("%q", cmp.Or(o.Host, "shop.example"))},
	}
	if o.SDS {
		changes = append(changes, struct{ old, new string }{source, "config_source: " + overSDS})
	}
	for _, c := range changes {
		if !bytes.Contains(b, []byte(c.old)) {
			return nil, fmt.Errorf("fleet: deploy/envoy/on-demand.yaml has no %q any more", c.old)
		}
	}
	var pairs []string
	for _, c := range changes {
		pairs = append(pairs, c.old, c.new)
	}
	return []byte(strings.NewReplacer(pairs...).Replace(string(b))), nil
}

// control is where an endpoint of the control plane is.
func control(addr string) string {
	if path, pipe := strings.CutPrefix(addr, "unix:"); pipe {
		return fmt.Sprintf("{pipe: {path: %q}}", path)
	}
	return "{socket_address: {" + socket(addr) + "}"
}

func socket(addr string) string {
	i := strings.LastIndexByte(addr, ':')
	return fmt.Sprintf("address: %q, port_value: %s}", addr[:max(i, 0)], addr[i+1:])
}
