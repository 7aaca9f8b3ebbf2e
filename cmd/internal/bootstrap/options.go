// Package bootstrap writes Envoy's configuration, whole or as the parts that an existing one
// needs. It has the settings that keep tickets alive and handshakes from hanging. Each setting
// carries its reason as a comment in what is written.
//
// Certificates come over delta ADS, in one stream for all. Rings come over the SDS service, in
// one stream. The setting initial_fetch_timeout: 0s keeps a port closed until its secrets are
// there.
//
// Source: https://www.envoyproxy.io/docs/envoy/latest/api-v3/config/bootstrap/v3/bootstrap.proto
package bootstrap

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/lockstep-tls/lockstep/cmd/internal/place"
	"github.com/lockstep-tls/lockstep/keysource"
)

// ErrBadOptions means that no configuration can be made of these options. The text names the
// option.
var ErrBadOptions = errors.New("bad bootstrap options")

// Options say what one Envoy serves and where its control plane is. Addresses are host:port.
type Options struct {
	Node    string // Node is the node id. Each Envoy has one of its own.
	Cluster string // Cluster is the node cluster. Empty is "edge".
	// XDS are the control plane's replicas, all by DNS name, or all by IP address or unix:/path.
	XDS    []string
	TLS    *TLS   // TLS is nil for plaintext, as on a socket.
	Admin  string // Admin is Envoy's admin listener.
	Mode   Mode   // Mode is Eager if it is empty.
	Listen string // Listen is the TLS listener, an IP address. Mode Hybrid has none.
	// Hosts are the server names, each with a filter chain of its own. "*.example.com" covers one
	// label. If the name of a second certificate stands there, such as shop.example:rsa, the chain
	// of its host names both. Only mode Eager has them.
	Hosts []string
	// Fallback is the name whose certificate a client without a server name gets, such as the
	// node's IP address. Only mode OnDemand has one. Empty is noName.
	Fallback string
	// Envoy is the node's version, such as 1.40.0. Some modes need a new one. Empty means not
	// known.
	Envoy string
	// Upstream takes the requests of all hosts.
	Upstream       string
	Scope          string        // Scope is whose ticket keys are used. Empty is "default".
	TicketLifetime time.Duration // TicketLifetime is the scope's, at most 24 h. 0 is 2 h.

	// ClientCerts is what the scope declares: "none" or empty, or the SHA-256 (64 hex digits, lower
	// case, with commas between several) of the CAs with which its listeners verify client
	// certificates. A ticket carries the
	// client's verification along. So a listener of another kind in the scope would accept clients
	// that nobody has verified.
	ClientCerts string
	ClientCA    *ClientCA // ClientCA is nil if the listener asks for no client certificates.
}

// Mode is where the filter chains of a node come from.
type Mode string

const (
	// Eager has a chain for each host in the bootstrap. Sessions resume.
	Eager Mode = "eager"
	// OnDemand has one chain for all names, which fetches certificates. No session resumes.
	OnDemand Mode = "on-demand"
	Hybrid   Mode = "hybrid" // Hybrid has a listener from lockstepd, with both kinds of chains.
)

// ClientCA has the CAs whose clients the listener accepts, and no others.
type ClientCA struct {
	File string // File is on the node.
	PEM  []byte // PEM is what stands in File.
}

// TLS is mTLS to the control plane. The files are PEM.
type TLS struct {
	CA   string // CA signs the control plane's certificate.
	Cert string // Cert is the node's own certificate, its identity.
	Key  string
	// ServerName is what the control plane's certificate must carry: a DNS name, an IP address or a
	// SPIFFE ID. Empty stands for the hosts of Options.XDS. Without this check every certificate of
	// the CA could pose as the control plane, also that of a node.
	ServerName string
}

const (
	defaultCluster  = "edge"
	defaultScope    = "default"
	noClientCerts   = "none"
	defaultLifetime = 2 * time.Hour
	maxLifetime     = 24 * time.Hour
)

func bad(format string, a ...any) error {
	return fmt.Errorf("%w: %s", ErrBadOptions, fmt.Sprintf(format, a...))
}

// endpoint is an address, split into host and port, or a socket.
type endpoint struct {
	host string
	port uint16
	pipe string // pipe is the path of a socket. It is empty for host and port.
}

func parseEndpoint(what, addr string) (endpoint, error) {
	host, p, err := net.SplitHostPort(addr)
	if err != nil {
		return endpoint{}, bad("%s: %q is not host:port", what, addr)
	}
	port, err := strconv.ParseUint(p, 10, 16)
	if err != nil || port == 0 {
		return endpoint{}, bad("%s: %q has no port from 1 to 65535", what, addr)
	}
	if net.ParseIP(host) == nil {
		if _, err := keysource.ServerName(host); err != nil {
			return endpoint{}, bad("%s: %q is neither an IP address nor a host name", what, host)
		}
	}
	return endpoint{host: host, port: uint16(port)}, nil
}

func parseListen(what, addr string) (endpoint, error) {
	e, err := parseEndpoint(what, addr)
	if err == nil && net.ParseIP(e.host) == nil {
		err = bad("%s: %q: Envoy listens on IP addresses only", what, e.host)
	}
	return e, err
}

// parseControl reads an address of the control plane, which may be a socket.
func parseControl(addr string) (endpoint, error) {
	path, socket := strings.CutPrefix(addr, "unix:")
	if !socket {
		return parseEndpoint("xds", addr)
	}
	if err := place.CheckSocket(path); err != nil {
		return endpoint{}, bad("xds: %v", err)
	}
	if !strings.HasPrefix(path, "/") || strings.Contains(path, ",") {
		return endpoint{}, bad("xds: %q: the path of a socket begins with a slash, and has no comma", addr)
	}
	return endpoint{pipe: path}, nil
}

// discovery is how Envoy finds the endpoints of a cluster. It looks up DNS names again and again,
// addresses never.
func discovery(what string, all []endpoint) (string, error) {
	names := 0
	for _, e := range all {
		if e.pipe == "" && net.ParseIP(e.host) == nil {
			names++
		}
	}
	switch names {
	case 0:
		return "STATIC", nil
	case len(all):
		return "STRICT_DNS", nil
	}
	return "", bad("%s: DNS names are mixed with IP addresses or sockets; use one kind", what)
}

// parseHosts returns the hosts. The name of a second certificate may stand there beside its host.
func parseHosts(mode Mode, hosts []string) ([]keysource.Name, error) {
	switch mode {
	case OnDemand, Hybrid:
		if len(hosts) > 0 {
			return nil, bad("hosts: none are named in mode %s", mode)
		}
		return nil, nil
	case Eager, "":
	default:
		return nil, bad("mode: %q is neither %s, %s nor %s", mode, Eager, OnDemand, Hybrid)
	}
	if len(hosts) == 0 {
		return nil, bad("hosts: at least one server name is needed")
	}
	var names []keysource.Name
	seen := make(map[keysource.Name]bool, len(hosts))
	for _, h := range hosts {
		n, err := keysource.CertName(h)
		if err != nil {
			return nil, bad("hosts: %v", err)
		}
		if seen[n] {
			return nil, bad("hosts: %q stands there twice", n)
		}
		seen[n] = true
		names = append(names, n)
	}
	for _, n := range names {
		if n.IsSecond() && !seen[n.Host()] {
			return nil, bad("hosts: %q is the second certificate of %s, which is not among them", n, n.Host())
		}
	}
	return names, nil
}

// noName is asked for if a client sends no server name, and Options.Fallback names nothing else.
const noName = "no-sni.invalid"

func parseNameless(o Options) (quoted, error) {
	if o.Fallback == "" {
		return quote(noName), nil
	}
	if o.Mode != OnDemand {
		return "", bad("fallback: it is of mode %s only; elsewhere give a host that is an IP address", OnDemand)
	}
	n, err := keysource.ServerName(o.Fallback)
	if err != nil {
		return "", bad("fallback: %v", err)
	}
	return quote(string(n)), nil
}

func parseLifetime(d time.Duration) (time.Duration, error) {
	switch {
	case d == 0:
		return defaultLifetime, nil
	case d < time.Second || d > maxLifetime || d%time.Second != 0:
		return 0, bad("ticket lifetime: %v is not a number of whole seconds from 1 s to %v", d, maxLifetime)
	}
	return d, nil
}

func parseScope(s string) (string, error) {
	if s == "" {
		return defaultScope, nil
	}
	if strings.ContainsAny(s, "/ \t\r\n") {
		return "", bad("scope: %q has a slash or a space", s)
	}
	return s, nil
}

// parseClientCA refuses a listener of another kind than the scope's.
func parseClientCA(scope, declared string, ca *ClientCA) (keysource.Authorities, error) {
	none := declared == "" || declared == noClientCerts
	switch {
	case ca == nil && none:
		return nil, nil
	case ca == nil:
		return nil, bad(
			"client certificates: the listeners of scope %s ask for them (client_certs: %s), and this one would "+
				"not: give its CA", scope, declared)
	case none:
		return nil, bad(
			"client certificates: the listeners of scope %s ask for none (client_certs: none), and this one "+
				"would: a ticket made without one would pass here; "+
				"use a scope of its own, whose client_certs is the SHA-256 of the CA", scope)
	}
	all, err := keysource.ParseAuthorities(ca.PEM)
	if err != nil {
		return nil, bad("client certificates: %s: %v", ca.File, err)
	}
	if other := all.Undeclared(declared); other != "" {
		return nil, bad("client certificates: scope %s declares another CA (client_certs: %s) than %s (%s): "+
			"list both there while one replaces the other", scope, declared, ca.File, other)
	}
	return all, nil
}
