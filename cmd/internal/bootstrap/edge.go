package bootstrap

import (
	"cmp"
	"strings"
)

type edgeValues struct {
	Node, Cluster, XDS, DataDir, Lifetime, Admin, Listen, Scope, ClientCA, Upstream quoted
	TLS                                                                             *edgeTLS
}

type edgeTLS struct {
	CA, Cert, Key quoted
	Name          quoted // Name is empty if the hosts of XDS count.
}

// Edge returns the configuration of a lockstep-edge (YAML) that keeps its last-good copy in
// dataDir. Options.Hosts and Options.Mode are not used, since an edge loads what clients ask for.
// The error wraps [ErrBadOptions].
func Edge(o Options, dataDir string) ([]byte, error) {
	if o.Node == "" {
		return nil, bad("node: every edge needs an id of its own")
	}
	if _, err := parseControlPlane(o.XDS, o.TLS); err != nil {
		return nil, err
	}
	scope, err := parseScope(o.Scope)
	if err != nil {
		return nil, err
	}
	lifetime, err := parseLifetime(o.TicketLifetime)
	if err != nil {
		return nil, err
	}
	cas, err := parseClientCA(scope, o.ClientCerts, o.ClientCA)
	if err != nil {
		return nil, err
	}
	var clientCA quoted
	if len(cas) > 0 {
		clientCA = quote(o.ClientCA.File)
	}
	for what, addr := range map[string]string{"admin": o.Admin, "listen": o.Listen, "upstream": o.Upstream} {
		if _, err := parseEndpoint(what, addr); err != nil {
			return nil, err
		}
	}
	v := edgeValues{
		Node: quote(o.Node), Cluster: quote(cmp.Or(o.Cluster, defaultCluster)), XDS: quote(strings.Join(o.XDS, ",")),
		DataDir:  quote(dataDir),
		Lifetime: quote(lifetime.String()), Admin: quote(o.Admin), Listen: quote(o.Listen), Scope: quote(scope),
		ClientCA: clientCA, Upstream: quote("http://" + o.Upstream),
	}
	if o.TLS != nil {
		v.TLS = &edgeTLS{CA: quote(o.TLS.CA), Cert: quote(o.TLS.Cert), Key: quote(o.TLS.Key)}
		if o.TLS.ServerName != "" {
			v.TLS.Name = quote(o.TLS.ServerName)
		}
	}
	return render("edge.yaml.tmpl", v)
}
