package bootstrap

import (
	"bytes"
	"cmp"
	"embed"
	"encoding/json"
	"fmt"
	"net"
	"slices"
	"strings"
	"text/template"

	"github.com/lockstep-tls/lockstep/keysource"
)

//go:embed *.yaml.tmpl
var files embed.FS

var templates = parse()

// parse gives the templates the function part, which writes another template at a given
// indentation.
func parse() *template.Template {
	t := template.New("")
	t.Funcs(template.FuncMap{"part": func(name string, indent int, data any) (string, error) {
		var b strings.Builder
		err := t.ExecuteTemplate(&b, name, data)
		margin := strings.Repeat(" ", indent)
		return margin + strings.ReplaceAll(b.String(), "\n", "\n"+margin), err
	}})
	return template.Must(t.ParseFS(files, "*.yaml.tmpl"))
}

// quoted is a string in the form in which it stands in YAML. The templates get no other kind of
// string. So a value such as n, on or 1e3 can never become something else. JSON's strings are a
// subset of YAML's double-quoted ones.
type quoted string

func quote(s string) quoted {
	b, _ := json.Marshal(s) // a string always marshals
	return quoted(b)
}

type address struct {
	Host quoted
	Port uint16
	Pipe quoted // Pipe is the path of a socket. It is empty for host and port.
}

func (e endpoint) quote() address {
	if e.pipe != "" {
		return address{Pipe: quote(e.pipe)}
	}
	return address{Host: quote(e.host), Port: e.port}
}

type controlPlane struct {
	Discovery string
	Endpoints []address
	TLS       *clientTLS
}

type clientTLS struct {
	CA, Cert, Key quoted
	SNI           quoted // SNI is not sent if it is empty.
	SANs          []san
}

type san struct {
	Type  string
	Value quoted
}

type values struct {
	Node, Cluster quoted
	XDS           controlPlane
	Admin, Listen address
	Upstream      struct {
		Discovery string
		address
	}
	Hosts    []host
	Ring     quoted
	Lifetime quoted
	// ClientCA is the source of the CAs of clients, in YAML. It is empty if clients show no
	// certificates.
	ClientCA string
	// Nameless is the certificate of a client without a server name, on demand.
	Nameless quoted
	OnDemand bool // OnDemand is one chain for all names.
	LDS      bool // LDS has no listener, which comes from lockstepd.
}

// host is a host with a filter chain of its own.
type host struct {
	Name   quoted
	Second quoted // Second is empty if the host has one certificate.
	Mark   quoted // Mark binds tickets to all CAs of clients, as a server name. It may be empty.
	// Ranges are the destination addresses of the chain. It has none if no host is an address.
	Ranges []prefix
	// ByAddress is true for an IP address, whose chain matches no server name.
	ByAddress bool
}

type prefix struct {
	Address quoted
	Bits    int
}

// chainHosts returns the hosts with what their chains match. Envoy looks at the destination address
// first, and does not come back to a less specific one. So where one host is an address, the chain
// of each name lists that address, too, and then all others.
func chainHosts(names []keysource.Name, clients keysource.Authorities) (all []host, err error) {
	var addresses []prefix
	for _, n := range names {
		if a, ok := n.Address(); ok {
			addresses = append(addresses, prefix{quote(string(n)), a.BitLen()})
		}
	}
	if len(addresses) > 0 {
		addresses = append(addresses, prefix{quote("0.0.0.0"), 0}, prefix{quote("::"), 0})
	}
	for _, n := range names {
		if n.IsSecond() {
			continue
		}
		h := host{Name: quote(string(n)), Ranges: addresses}
		if a, ok := n.Address(); ok {
			h.Ranges, h.ByAddress = []prefix{{h.Name, a.BitLen()}}, true
		}
		switch mark := clients.Mark(string(n)); {
		case mark == "":
		case h.ByAddress:
			return nil, bad("client certificates: with several CAs an IP address (%s) cannot be a host here, since "+
				"its chain has no server names, which bind tickets to all CAs: use --mode hybrid, whose chains "+
				"come from lockstepd, or one CA", n)
		default:
			h.Mark = quote(mark)
		}
		if second := n.Second(); slices.Contains(names, second) {
			h.Second = quote(string(second))
		}
		all = append(all, h)
	}
	return all, nil
}

// Envoy returns a whole bootstrap (YAML) for `envoy -c`. It has a listener with a filter chain for
// each host, or what Options.Mode says. Certificates come by ADS, the ring by the SDS service. The
// error wraps [ErrBadOptions].
func Envoy(o Options) ([]byte, error) {
	v, err := shared(o)
	if err != nil {
		return nil, err
	}
	if o.Node == "" {
		return nil, bad("node: every Envoy needs an id of its own")
	}
	v.Node, v.Cluster = quote(o.Node), quote(cmp.Or(o.Cluster, defaultCluster))
	admin, err := parseListen("admin", o.Admin)
	if err != nil {
		return nil, err
	}
	listen := endpoint{}
	if o.Mode != Hybrid {
		if listen, err = parseListen("listen", o.Listen); err != nil {
			return nil, err
		}
	}
	upstream, err := parseEndpoint("upstream", o.Upstream)
	if err != nil {
		return nil, err
	}
	v.Upstream.Discovery, err = discovery("upstream", []endpoint{upstream})
	if err != nil {
		return nil, err
	}
	v.Admin, v.Listen, v.Upstream.address = admin.quote(), listen.quote(), upstream.quote()
	return render("envoy.yaml.tmpl", v)
}

// Snippet returns what an existing bootstrap needs, as a YAML document for the top of it and one
// for each host's filter chain. Comments say where each goes. It uses only XDS, TLS, Envoy, Hosts,
// Scope, TicketLifetime, ClientCerts and ClientCA. The error wraps [ErrBadOptions].
func Snippet(o Options) ([]byte, error) {
	if o.Mode != Eager && o.Mode != "" {
		return nil, bad("mode: a snippet is of mode %s only", Eager)
	}
	v, err := shared(o)
	if err != nil {
		return nil, err
	}
	return render("snippet.yaml.tmpl", v)
}

func shared(o Options) (v values, err error) {
	if v.XDS, err = parseControlPlane(o.XDS, o.TLS); err != nil {
		return v, err
	}
	if err := parseEnvoy(o.Envoy, o.Mode); err != nil {
		return v, err
	}
	hosts, err := parseHosts(o.Mode, o.Hosts)
	if err != nil {
		return v, err
	}
	v.OnDemand, v.LDS = o.Mode == OnDemand, o.Mode == Hybrid
	if v.Nameless, err = parseNameless(o); err != nil {
		return v, err
	}
	scope, err := parseScope(o.Scope)
	if err != nil {
		return v, err
	}
	lifetime, err := parseLifetime(o.TicketLifetime)
	if err != nil {
		return v, err
	}
	clients, err := parseClientCA(scope, o.ClientCerts, o.ClientCA)
	if err != nil {
		return v, err
	}
	if v.Hosts, err = chainHosts(hosts, clients); err != nil {
		return v, err
	}
	switch {
	case len(clients) == 0:
	case clients.AsIs(o.ClientCA.PEM):
		v.ClientCA = fmt.Sprintf("{filename: %s}", quote(o.ClientCA.File))
	default:
		// Of several, the file may change, and the mark of it would not.
		v.ClientCA = fmt.Sprintf("{inline_string: %s}", quote(string(clients.PEM())))
	}
	v.Ring = quote(keysource.RingName(scope))
	v.Lifetime = quote(fmt.Sprintf("%ds", int64(lifetime.Seconds())))
	return v, nil
}

func parseControlPlane(addrs []string, t *TLS) (c controlPlane, err error) {
	if len(addrs) == 0 {
		return c, bad("xds: at least one address is needed")
	}
	var all []endpoint
	for _, a := range addrs {
		e, err := parseControl(a)
		if err != nil {
			return c, err
		}
		if e.pipe != "" && t != nil {
			return c, bad("tls: %s is a socket, and TLS is not spoken there: leave the certificates out, or name "+
				"lockstepd by host:port", a)
		}
		all = append(all, e)
		c.Endpoints = append(c.Endpoints, e.quote())
	}
	if c.Discovery, err = discovery("xds", all); err != nil || t == nil {
		return c, err
	}
	if t.CA == "" || t.Cert == "" || t.Key == "" {
		return c, bad("tls: ca, cert and key go together")
	}
	c.TLS = &clientTLS{CA: quote(t.CA), Cert: quote(t.Cert), Key: quote(t.Key)}
	names := []string{t.ServerName}
	if t.ServerName == "" {
		names = nil
		for _, e := range all {
			names = append(names, e.host)
		}
	}
	seen := map[string]bool{}
	for _, n := range names {
		if seen[n] {
			continue
		}
		seen[n] = true
		kind := sanType(n)
		c.TLS.SANs = append(c.TLS.SANs, san{kind, quote(n)})
		if kind == "DNS" && c.TLS.SNI == "" {
			c.TLS.SNI = quote(n)
		}
	}
	return c, nil
}

func sanType(name string) string {
	switch {
	case strings.Contains(name, "://"):
		return "URI"
	case net.ParseIP(name) != nil:
		return "IP_ADDRESS"
	}
	return "DNS"
}

func render(file string, v any) ([]byte, error) {
	var b bytes.Buffer
	if err := templates.ExecuteTemplate(&b, file, v); err != nil {
		return nil, fmt.Errorf("bootstrap: %s: %w", file, err)
	}
	return b.Bytes(), nil
}
