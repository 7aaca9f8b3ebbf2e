package e2e

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/lockstep-tls/lockstep/test/fleet"
)

const gatewaysRules = `- {identity: "spiffe://fleet.example/gateway/*", scopes: [default], names: ["*.example"]}
- {identity: "spiffe://fleet.example/consul/1", scopes: [default], names: [host-1.example, host-2.example, later.example]}
`

// TestGatewaysOfOtherControlPlanes: Envoys with the clusters and listeners that Envoy Gateway,
// Istio (by the socket, and as a provider) and Consul send them, and the patches that the pages
// have users apply. They have node certificates: the first two by the forwarder. Certificates come,
// and renewals; one host that has no certificate hurts no other, and is served once it has; all
// share a ring, and no session is lost as it rotates.
func TestGatewaysOfOtherControlPlanes(t *testing.T) {
	t.Parallel() // it mostly waits
	s := newStage(t, setup{later: true})
	dir := s.path("pki")
	s.mustRun("pki", "init", "--dir", dir)
	s.mustRun("pki", "issue", "server", "--dir", dir, "--name", "lockstep.internal", "--ip", "127.0.0.1")
	for node, id := range map[string]string{"forwarder": "gateway/1", "provider": "gateway/2", "consul": "consul/1"} {
		s.mustRun("pki", "issue", "node", "--dir", dir, "--node", node, "--spiffe-id", "spiffe://fleet.example/"+id)
	}
	s.policy(gatewaysRules)
	s.overTCP("--policy", s.path("policy.yaml"), "--xds-cert", dir+"/server/tls.crt",
		"--xds-key", dir+"/server/tls.key", "--xds-client-ca", dir+"/ca.crt")
	s.start()
	const later = "later.example"
	hosts := append(slices.Clone(s.hosts), later)

	byForwarder, byProvider, byConsul := s.abroad(dir, "forwarder"), s.abroad(dir, "provider"), s.abroad(dir, "consul")
	forwarder := s.place("forwarder")
	ip, port, err := net.SplitHostPort(forwarder.admin)
	s.ok(err)
	config := strings.NewReplacer(`address: "127.0.0.1", port_value: 19900`, fmt.Sprintf("address: %q, port_value: %s",
		ip, port)).Replace(s.deployed("envoy/forwarder.yaml"))
	s.runAs("forwarder", forwarder, []byte(byForwarder.here.Replace(config)))
	s.envoys = nil // it is none of those that serve
	s.ok(forwarder.Ready(s.ctx))

	eg := byForwarder.gateway("envoy-gateway")
	istio := byForwarder.gateway("istio")
	provided := byProvider.gateway("istio-provider")
	consul := byConsul.gateway("consul")
	own, err := fleet.Addr()
	s.ok(err)
	consul.static = tree{
		"clusters": []any{byConsul.json("consul/sds-cluster.json")}, "listeners": []any{byConsul.tickets(own, hosts)},
	}
	gateways := []*envoy{
		byForwarder.raise("envoy-gateway", eg, byForwarder.patched(eg, byForwarder.chains(eg, hosts))),
		byForwarder.raise("istio", istio, byForwarder.filtered(byForwarder.chains(istio, hosts), "sds-external")),
		byProvider.raise("istio-provider", provided, byProvider.filtered(byProvider.chains(provided, hosts),
			"outbound|18000||lockstep.lockstep.svc.cluster.local")),
		byConsul.raise("consul", consul, byConsul.chains(consul, hosts)),
	}
	for _, e := range gateways {
		// the host without a certificate holds them up for the 15 s that Envoy waits
		s.eventuallyWithin(patience, func() error { return errors.Join(e.Ready(s.ctx), e.listens()) })
	}
	withRing := append(slices.Clone(gateways[:3]), &envoy{
		Process: gateways[3].Process, name: gateways[3].name + " (tickets)", addr: own, admin: gateways[3].admin,
	})
	all := append(slices.Clone(withRing), gateways[3])
	serves := func(host string, p fleet.Pair) {
		t.Helper()
		for _, e := range all {
			s.eventually(func() error {
				if err := s.serving(e, host, p); err != nil {
					return fmt.Errorf("%s: %s: %w", e.name, host, err)
				}
				return nil
			})
		}
	}
	serves("host-1.example", s.renew("host-1.example"))
	serves("host-2.example", s.renew("host-2.example"))
	for _, e := range all {
		if s.reaches(e, later) == nil {
			t.Errorf("%s serves %s, which has no certificate", e.name, later)
		}
	}

	// Each is known by its certificate, under the name that its control plane gave it.
	identities := map[string]string{}
	for _, n := range s.nodes() {
		identities[n.Node] = strings.TrimPrefix(n.Identity, "spiffe://fleet.example/")
	}
	if want := map[string]string{
		gateways[0].name: "gateway/1", gateways[1].name: "gateway/1",
		gateways[2].name: "gateway/2", gateways[3].name: "consul/1",
	}; !maps.Equal(identities, want) {
		t.Errorf("nodes %v, want %v", identities, want)
	}
	for i, want := range [][]string{
		{"host-1.example", "host-2.example", "tickets/default"},
		{"sds://host-1.example", "sds://host-2.example", "tickets/default"},
		{"sds://host-1.example", "sds://host-2.example", "tickets/default"},
		{"host-1.example", "host-2.example", "tickets/default"},
	} {
		held, _ := s.holds(gateways[i])
		for _, name := range want {
			if !slices.Contains(held, name+" accepted") {
				t.Errorf("%s holds %q, not %s", gateways[i].name, held, name)
			}
		}
	}

	// One ring for all of them.
	s.awaitPhase("steady", 4)
	a := s.clients(withRing...)
	a.cross("the start")
	s.mustRun("rotate", "--wait", "--timeout", "20s")
	a.cross("a rotation")
	s.ok(s.plane.Kill())
	s.ok(s.plane.Restart())
	s.ok(s.plane.Ready(s.ctx))
	s.awaitPhase("steady", 4)
	s.mustRun("rotate", "--wait", "--timeout", "20s")
	a.cross("lockstepd was killed, and another rotation")
	serves("host-1.example", s.renew("host-1.example"))
	serves(later, s.renew(later))
	a.check("all")
}
