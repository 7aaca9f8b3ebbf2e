package edgeproxy

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/lockstep-tls/lockstep/keysource"
)

// Config is what a proxy serves. Zero durations and numbers do not mean defaults: see
// [DefaultLimits] and [DefaultTimeouts].
type Config struct {
	Listeners []Listener
	Routes    []Route
	Limits    Limits
	Timeouts  Timeouts
	// TrustedProxies are the addresses whose word of clients is passed on: X-Forwarded-*, X-Real-IP
	// and the other headers in which upstreams believe a proxy. Those of others are removed.
	TrustedProxies []netip.Prefix
}

// Listener is one address that speaks TLS.
type Listener struct {
	// Address is host:port, or :port for every address.
	Address string `yaml:"address"`
	// Scope is the scope whose ticket keys it uses. Listeners of one scope take each other's
	// tickets if they demand the same of clients.
	Scope string `yaml:"scope"`
	// Fallback is a server name or an IP address. Its certificate goes to clients that send a
	// server name without a certificate, or none. Of these some connect to an address that has a
	// certificate, and get that. If it is empty, such handshakes fail.
	Fallback string `yaml:"fallback"`
	// MinVersion is the oldest TLS version: "1.2" or "1.3".
	MinVersion string `yaml:"min_version"`
	// ClientCA is a PEM file: clients must show a certificate of one of these CAs. If it is empty,
	// they are asked for none.
	ClientCA string `yaml:"client_ca"`
	// ClientNames are DNS names and URIs (SPIFFE IDs), with globs of one label or path segment
	// ("*.mesh.example", "spiffe://mesh.example/ns/*"). A client's certificate must have one of
	// them. If it is empty, every certificate of the CA is accepted.
	ClientNames []string `yaml:"client_names"`
	// XFCCCert says that upstreams are told the client's whole certificate. Without it
	// X-Forwarded-Client-Cert has its hash, subject, URIs and DNS names.
	XFCCCert bool `yaml:"xfcc_cert"`
	// Connections is how many connections may be open at once. Further ones wait to be accepted. 0
	// means no limit.
	Connections int `yaml:"connections"`
	// HealthPath is a path that the edge answers itself, for every host, with 200 once it is
	// ready. It is for the health checks of balancers, which often send no server name, and an
	// address as the host. Without a fallback, and without a certificate for the address, a
	// handshake without a server name is then taken for one of theirs. It gets a certificate that
	// nobody has signed, needs none of its own, and finds nothing but this path. If it is empty,
	// there is no such path.
	HealthPath string `yaml:"health_path"`
	// ProxyProtocol are the networks (10.0.0.0/8) of balancers that put a header of the PROXY
	// protocol, version 1 or 2, in front of each connection. The header tells the client's address,
	// which is then that of the access log, of X-Forwarded-For and for trusted_proxies. Connections
	// from these networks must begin with a header. Those from others begin with TLS, and a header
	// there is refused.
	ProxyProtocol []string `yaml:"proxy_protocol"`
}

// Route says where the requests for a host and a path go. Among routes that match, the most
// specific host wins (a name, then a wildcard, then "*"), and then the longest path.
type Route struct {
	// Host is a server name, a wildcard ("*.example.com": one label), or "*".
	Host string `yaml:"host"`
	// Path is a prefix of whole segments, written decoded: /api is for /api and /api/v1, not for
	// /apis, and / is for all. Upstreams get paths as clients wrote them. A path that upstreams
	// may understand in different ways, of which some lead elsewhere (/public/../admin,
	// /public%2f..), is refused with 400.
	Path string `yaml:"path"`
	// Upstreams are the endpoints: http://host:port, https://host:port, or h2c://host:port for
	// HTTP/2 in the clear (gRPC). They share the requests. One that fails three times in a row
	// gets none for ten seconds.
	Upstreams []string `yaml:"upstreams"`
	// UpstreamCA is a PEM file with the CAs of https upstreams. If it is empty, the system's CAs
	// count.
	UpstreamCA string `yaml:"upstream_ca"`
	// UpstreamName is the name that the certificates of https upstreams must carry. They are asked
	// for it (SNI). If it is empty, that is the host of each upstream. Give it if upstreams are
	// addresses.
	UpstreamName string `yaml:"upstream_name"`
	// UpstreamCert and UpstreamKey are PEM files with the certificate, its chain and the key that
	// https upstreams are shown if they ask. The files are read again when they change. If they
	// cannot be used then, the ones of before are shown.
	UpstreamCert string `yaml:"upstream_cert"`
	UpstreamKey  string `yaml:"upstream_key"`
	// Body, UpstreamDial, UpstreamHeader and UpstreamIdle are timeouts for this route. One that is
	// left out is as in timeouts.
	Body           time.Duration `yaml:"body"`
	UpstreamDial   time.Duration `yaml:"upstream_dial"`
	UpstreamHeader time.Duration `yaml:"upstream_header"`
	UpstreamIdle   time.Duration `yaml:"upstream_idle"`
}

// Limits bound what clients can make the proxy hold.
type Limits struct {
	HeaderBytes int `yaml:"header_bytes"` // of the header of a request
	Streams     int `yaml:"streams"`      // concurrent requests of an HTTP/2 connection
	Names       int `yaml:"names"`        // certificates that are held
}

// Timeouts are each for one step. A request as a whole has no time limit, since streams have none.
type Timeouts struct {
	// Header is for a handshake, and for a request's header.
	Header time.Duration `yaml:"header"`
	// Idle is for a connection without a request.
	Idle time.Duration `yaml:"idle"`
	// Body is how long a client may keep one piece of a body waiting. A stream, whose length the
	// client does not say, may wait for UpstreamHeader if that is longer. Once the response has
	// begun, both sides may be silent, and so may an upgraded connection.
	Body time.Duration `yaml:"body"`
	// Load is for loading a certificate while a client waits.
	Load time.Duration `yaml:"load"`
	// UpstreamDial is for connecting to an upstream, with its handshake.
	UpstreamDial time.Duration `yaml:"upstream_dial"`
	// UpstreamHeader is for an upstream's response to begin. The time begins when the upstream has
	// all that the client sent.
	UpstreamHeader time.Duration `yaml:"upstream_header"`
	// UpstreamIdle is how long a connection to an upstream is kept without a request. It should be
	// less than the upstream keeps it. Otherwise the upstream may close it just when a request is
	// sent, and a POST is then answered with 502. Node.js, Apache and uvicorn keep it for 5 s,
	// gunicorn for 2 s. A shorter time in a Keep-Alive header of the upstream is respected.
	UpstreamIdle time.Duration `yaml:"upstream_idle"`
	// Drain is how long requests may go on once the proxy is told to stop.
	Drain time.Duration `yaml:"drain"`
}

// DefaultLimits returns the limits of a proxy whose configuration names none.
func DefaultLimits() Limits { return Limits{HeaderBytes: 64 << 10, Streams: 250, Names: 10_000} }

// DefaultTimeouts returns the timeouts of a proxy whose configuration names none.
func DefaultTimeouts() Timeouts {
	return Timeouts{
		Header: 10 * time.Second, Idle: 2 * time.Minute, Body: time.Minute, Load: 5 * time.Second,
		UpstreamDial: 5 * time.Second, UpstreamHeader: time.Minute, UpstreamIdle: 4 * time.Second,
		Drain: 30 * time.Second,
	}
}

// ErrBadConfig means that no proxy can be made of a configuration. The text says what to change.
var ErrBadConfig = errors.New("edge configuration")

func bad(format string, a ...any) error {
	return fmt.Errorf("%w: %s", ErrBadConfig, fmt.Sprintf(format, a...))
}

// Check refuses what cannot be served. It does not read the files that c names. The error wraps
// ErrBadConfig, and is the first of Faults.
func (c Config) Check() error {
	if all := c.Faults(); len(all) > 0 {
		return all[0]
	}
	return nil
}

// Faults returns everything for which Check refuses c.
func (c Config) Faults() (all []error) {
	if len(c.Listeners) == 0 {
		all = append(all, bad("listeners: there must be one at least"))
	}
	for i, l := range c.Listeners {
		if err := l.check(); err != nil {
			all = append(all, fmt.Errorf("listeners[%d]: %w", i, err))
		}
	}
	for i, r := range c.Routes {
		if err := r.check(); err != nil {
			all = append(all, fmt.Errorf("routes[%d]: %w", i, err))
		}
	}
	if len(c.Routes) == 0 {
		all = append(all, bad("routes: there must be one at least"))
	}
	if c.Limits.HeaderBytes < 1<<10 || c.Limits.HeaderBytes > 1<<20 {
		all = append(all, bad("limits: header_bytes: %d is not between 1024 and 1048576", c.Limits.HeaderBytes))
	}
	if c.Limits.Streams < 1 {
		all = append(all, bad("limits: streams: %d is less than 1", c.Limits.Streams))
	}
	if c.Limits.Names < 10 || c.Limits.Names > 1_000_000 {
		all = append(all, bad("limits: names: %d is not between 10 and 1000000", c.Limits.Names))
	}
	t := c.Timeouts
	for _, step := range []struct {
		name string
		d    time.Duration
	}{
		{"header", t.Header}, {"idle", t.Idle}, {"body", t.Body}, {"load", t.Load}, {"upstream_dial", t.UpstreamDial},
		{"upstream_header", t.UpstreamHeader}, {"upstream_idle", t.UpstreamIdle}, {"drain", t.Drain},
	} {
		if step.d <= 0 || step.d > maxTimeout {
			all = append(all, bad("timeouts: %s: %s is not between 0 and 24h", step.name, step.d))
		}
	}
	return all
}

const maxTimeout = 24 * time.Hour

// FileFaults returns everything that is wrong with the files that c names. New returns the first of
// them. Each wraps ErrBadConfig.
func (c Config) FileFaults() (all []error) {
	for i, r := range c.Routes {
		if _, err := r.roots(i); err != nil {
			all = append(all, err)
		}
		if _, err := r.pair(i); err != nil {
			all = append(all, err)
		}
	}
	for i, l := range c.Listeners {
		if _, _, err := l.clientCAs(); err != nil {
			all = append(all, fmt.Errorf("listeners[%d]: %w", i, err))
		}
	}
	return all
}

// roots reads the CAs of the upstreams of route i. They are nil if the system's count.
func (r Route) roots(i int) (*x509.CertPool, error) {
	if r.UpstreamCA == "" {
		return nil, nil
	}
	p, _, err := authorities(r.UpstreamCA)
	if err != nil {
		return nil, fmt.Errorf("%w: routes[%d]: upstream_ca: %w", ErrBadConfig, i, err)
	}
	return p, nil
}

// pair reads the certificate that the upstreams of route i are shown. It is nil if there is none.
func (r Route) pair(i int) (*tls.Certificate, error) {
	if r.UpstreamCert == "" {
		return nil, nil
	}
	c, err := tls.LoadX509KeyPair(r.UpstreamCert, r.UpstreamKey)
	if err != nil {
		return nil, fmt.Errorf("%w: routes[%d]: upstream_cert and upstream_key: %w", ErrBadConfig, i, err)
	}
	return &c, nil
}

// timeouts returns those of the route, where t are those of all.
func (r Route) timeouts(t Timeouts) Timeouts {
	t.Body = cmp.Or(r.Body, t.Body)
	t.UpstreamDial = cmp.Or(r.UpstreamDial, t.UpstreamDial)
	t.UpstreamHeader = cmp.Or(r.UpstreamHeader, t.UpstreamHeader)
	t.UpstreamIdle = cmp.Or(r.UpstreamIdle, t.UpstreamIdle)
	return t
}

// clientCAs reads the CAs of clients. They are nil if clients are asked for no certificate.
func (l Listener) clientCAs() (p *x509.CertPool, der [][]byte, err error) {
	if l.ClientCA == "" {
		return nil, nil, nil
	}
	if p, der, err = authorities(l.ClientCA); err != nil {
		return nil, nil, fmt.Errorf("%w: client_ca: %w", ErrBadConfig, err)
	}
	return p, der, nil
}

// Scopes lists the scopes whose ticket keys the listeners use, each once.
func (c Config) Scopes() (all []string) {
	for _, l := range c.Listeners {
		if !slices.Contains(all, l.Scope) {
			all = append(all, l.Scope)
		}
	}
	return all
}

func (l Listener) check() error {
	if _, _, err := net.SplitHostPort(l.Address); err != nil {
		return bad("address: %q is not host:port", l.Address)
	}
	if l.Scope == "" {
		return bad("scope is empty")
	}
	if l.Fallback != "" {
		if _, err := keysource.ServerName(l.Fallback); err != nil {
			return bad("fallback: %v", err)
		}
	}
	if l.Connections < 0 {
		return bad("connections: %d is less than 0", l.Connections)
	}
	if l.HealthPath != "" {
		if err := checkHealthPath(l.HealthPath); err != nil {
			return err
		}
	}
	if _, err := Networks("proxy_protocol", l.ProxyProtocol); err != nil {
		return bad("%v", err)
	}
	if l.MinVersion != "1.2" && l.MinVersion != "1.3" {
		return bad("min_version: %q is neither 1.2 nor 1.3", l.MinVersion)
	}
	if len(l.ClientNames) > 0 && l.ClientCA == "" {
		return bad("client_names needs client_ca")
	}
	if l.XFCCCert && l.ClientCA == "" {
		return bad("xfcc_cert needs client_ca")
	}
	return nil
}

// Networks reads a list of networks. The error names the key.
func Networks(key string, list []string) (all []netip.Prefix, err error) {
	for _, s := range list {
		n, err := netip.ParsePrefix(s)
		if err != nil {
			if a, err := netip.ParseAddr(s); err == nil && a.Zone() == "" {
				return nil, fmt.Errorf("%s: %q is no network: write %s/%d", key, s, a, a.BitLen())
			}
			return nil, fmt.Errorf("%s: %q is no network such as 10.0.0.0/8", key, s)
		}
		all = append(all, n.Masked())
	}
	return all, nil
}

func (r Route) check() error {
	if _, err := hostPattern(r.Host); err != nil {
		return bad("host: %v", err)
	}
	if !strings.HasPrefix(r.Path, "/") {
		return bad("path: %q does not begin with /", r.Path)
	}
	if plain, ok := loosest(r.Path); !ok || plain != r.Path {
		return bad("path: %q: no request can match it: leave out //, dot segments, ; and \\", r.Path)
	}
	if len(r.Upstreams) == 0 {
		return bad("upstreams: there must be one at least")
	}
	encrypted := false
	for _, up := range r.Upstreams {
		u, err := endpointURL(up)
		if err != nil {
			return err
		}
		encrypted = encrypted || u.Scheme == "https"
	}
	switch {
	case encrypted:
	case r.UpstreamName != "":
		return bad("upstream_name: none of the upstreams is https://")
	case r.UpstreamCert != "":
		return bad("upstream_cert: none of the upstreams is https://")
	}
	if (r.UpstreamCert == "") != (r.UpstreamKey == "") {
		return bad("upstream_cert: upstream_cert and upstream_key go together")
	}
	if r.UpstreamName != "" {
		if err := upstreamName(r.UpstreamName); err != nil {
			return err
		}
	}
	for _, step := range []struct {
		name string
		d    time.Duration
	}{
		{"body", r.Body}, {"upstream_dial", r.UpstreamDial}, {"upstream_header", r.UpstreamHeader},
		{"upstream_idle", r.UpstreamIdle},
	} {
		if step.d < 0 || step.d > maxTimeout {
			return bad("%s: %s is not between 0 and 24h", step.name, step.d)
		}
	}
	return nil
}

// upstreamName refuses what no certificate can carry.
func upstreamName(s string) error {
	if _, err := netip.ParseAddr(s); err == nil {
		return nil
	}
	if n, err := keysource.ServerName(s); err != nil {
		return bad("upstream_name: %v", err)
	} else if strings.HasPrefix(string(n), "*.") {
		return bad("upstream_name: %q is a pattern: give a name that the certificate covers", s)
	}
	return nil
}

// hostPattern returns a route's host as it is compared.
func hostPattern(host string) (keysource.Name, error) {
	if host == "*" {
		return "*", nil
	}
	return keysource.ServerName(host)
}

func endpointURL(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" && u.Scheme != "h2c" || u.Path != "" &&
		u.Path != "/" || u.RawQuery != "" || u.User != nil {
		return nil, bad("upstreams: %q is not http://, https:// or h2c:// and host:port", s)
	}
	return u, nil
}

// authorities reads the CA certificates in a file. It also returns them as DER.
func authorities(file string) (p *x509.CertPool, der [][]byte, err error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, nil, err
	}
	all, err := keysource.ParseAuthorities(text)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", file, err)
	}
	p = x509.NewCertPool()
	for _, der := range all {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, nil, fmt.Errorf("%s: %w", file, err)
		}
		p.AddCert(c)
	}
	return p, all, nil
}
