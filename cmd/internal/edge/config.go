// Package edge is lockstep-edge. It has the bundled proxy, its secrets and its admin listener in
// one process.
package edge

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/lockstep-tls/lockstep/cmd/internal/logs"
	"github.com/lockstep-tls/lockstep/cmd/internal/place"
	"github.com/lockstep-tls/lockstep/cmd/internal/settings"
	"github.com/lockstep-tls/lockstep/cmd/internal/strictyaml"
	"github.com/lockstep-tls/lockstep/edgeproxy"
	"github.com/lockstep-tls/lockstep/keysource"
)

// Config is the configuration of lockstep-edge. It is one YAML file, decoded strictly. Every key
// that holds one value is also a flag (admin_listen: --admin-listen) and an environment variable
// (LOCKSTEP_EDGE_ADMIN_LISTEN). A flag wins over the environment, and the environment over the
// file.
type Config struct {
	// Node is this edge's id at the control plane. Each edge has one of its own.
	Node string `yaml:"node"`
	// Cluster is the node cluster.
	Cluster string `yaml:"cluster"`
	// XDS is the address of the control plane: host:port, several of them with commas, or
	// unix:/path. The first that answers is used. Empty stands for unix:/run/lockstep/xds.sock, and
	// with XDSCert for 127.0.0.1:18000.
	XDS string `yaml:"xds"`
	// XDSCert, XDSKey and XDSCA are PEM files for mTLS to the control plane: this node's
	// certificate (its identity) and key, and the CA of the control plane. They are read again at
	// each connection. Without them the connection is plaintext, which a control plane accepts on
	// loopback and unix sockets only.
	XDSCert string `yaml:"xds_cert"`
	XDSKey  string `yaml:"xds_key"`
	XDSCA   string `yaml:"xds_ca"`
	// XDSName is the name that the control plane's certificate must carry. Empty stands for the
	// host of XDS.
	XDSName string `yaml:"xds_name"`
	// DataDir is where the last-good copy is kept. It is what the control plane gave, sealed, so
	// that the edge can start without the control plane. One process uses it at a time, except
	// during a hand-over. If it is empty, there is no copy.
	DataDir string `yaml:"data_dir"`
	// KEK is where the key that seals the copy is kept. It is a file, which is made if it is
	// missing, credential:NAME, of systemd, or env:VARIABLE. Empty stands for DataDir/sealing.key.
	KEK string `yaml:"kek"`
	// TicketLifetime is that of the scopes at the control plane. Ticket keys of a copy that is
	// older are not used.
	TicketLifetime time.Duration `yaml:"ticket_lifetime"`
	// AdminListen is the address of /metrics, /healthz and /readyz. It should be loopback, or an
	// address that strangers cannot reach. If it is empty, there is none.
	AdminListen string `yaml:"admin_listen"`

	Listeners []edgeproxy.Listener `yaml:"listeners"`
	Routes    []edgeproxy.Route    `yaml:"routes"`
	Limits    edgeproxy.Limits     `yaml:"limits"`
	Timeouts  edgeproxy.Timeouts   `yaml:"timeouts"`
	// Preload are server names whose certificates are asked for at the start, and never given up
	// for others. Others are loaded when a client first asks for them.
	Preload []string `yaml:"preload"`
	// TrustedProxies are the networks (10.0.0.0/8) whose X-Forwarded-* headers are believed.
	TrustedProxies []string `yaml:"trusted_proxies"`
	// AccessLog says whether each request is logged. It is on or off.
	AccessLog string `yaml:"access_log"`
	// LogLevel is what is logged at least: debug, info, warn or error. LogFormat is json or text,
	// of the access log too.
	LogLevel  string `yaml:"log_level"`
	LogFormat string `yaml:"log_format"`
}

// Default returns the configuration without any setting.
func Default() Config {
	return Config{
		Cluster: "edge", AdminListen: "127.0.0.1:18090", AccessLog: "on",
		TicketLifetime: 2 * time.Hour, LogLevel: logs.DefaultLevel, LogFormat: logs.DefaultFormat,
		Limits: edgeproxy.DefaultLimits(), Timeouts: edgeproxy.DefaultTimeouts(),
	}
}

// Flags binds c's keys to flags whose values so far are the defaults.
func (c *Config) Flags(f *pflag.FlagSet) {
	f.StringVar(&c.Node, "node", c.Node, "this edge's id at the control plane")
	f.StringVar(&c.Cluster, "cluster", c.Cluster, "its node cluster")
	f.StringVar(&c.XDS, "xds", c.XDS, "the control plane: host:port, several with commas, or unix:/path "+
		"(default unix:/run/lockstep/xds.sock)")
	f.StringVar(&c.XDSCert, "xds-cert", c.XDSCert, "PEM file: this node's certificate for mTLS to the control plane")
	f.StringVar(&c.XDSKey, "xds-key", c.XDSKey, "PEM file: its private key")
	f.StringVar(&c.XDSCA, "xds-ca", c.XDSCA, "PEM file: the CA of the control plane's certificate")
	f.StringVar(&c.XDSName, "xds-name", c.XDSName,
		"the name that the control plane's certificate must carry (default: the host of --xds)")
	f.StringVar(&c.DataDir, "data-dir", c.DataDir, "where the sealed last-good copy is kept; empty: nowhere")
	f.StringVar(&c.KEK, "kek", c.KEK, "the key that seals it: a file, credential:NAME or env:VARIABLE (default "+
		"<data-dir>/sealing.key)")
	f.DurationVar(&c.TicketLifetime, "ticket-lifetime", c.TicketLifetime, "that of the scopes at the control plane")
	f.StringVar(&c.AdminListen, "admin-listen", c.AdminListen, "address of /metrics, /healthz and /readyz; empty: none")
	f.StringVar(&c.LogLevel, "log-level", c.LogLevel, "what is logged at least: debug, info, warn or error")
	f.StringVar(&c.LogFormat, "log-format", c.LogFormat, "json or text")
	f.StringVar(&c.AccessLog, "access-log", c.AccessLog, "log each request: on or off")
}

// Load fills c, whose flags f has parsed. It reads file, then the environment, then the flags that
// were given.
func (c *Config) Load(file string, f *pflag.FlagSet, getenv func(string) string) error {
	if err := needsFile(file); err != nil {
		return err
	}
	return settings.From(file, prefix, f, getenv).Read(c, f)
}

func needsFile(file string) error {
	if file != "" {
		return nil
	}
	_, err := os.ReadFile(file)
	return fmt.Errorf("the configuration: %w", err)
}

// prefix is that of the environment variables.
const prefix = "LOCKSTEP_EDGE_"

// Again reads the configuration of a program again that was started with the flags f.
func Again(file string, f *pflag.FlagSet, getenv func(string) string) func() (Config, error) {
	from := settings.From(file, prefix, f, getenv)
	return func() (Config, error) {
		c := Default()
		f := pflag.NewFlagSet("", pflag.ContinueOnError)
		c.Flags(f)
		return c, from.Read(&c, f)
	}
}

// Settings returns the settings by key, as texts for people.
func (c Config) Settings() map[string]string { return settings.Flatten(c).Texts() }

// Parse implements [settings.Config].
func (c *Config) Parse(b []byte) []strictyaml.Fault {
	if len(strings.TrimSpace(string(b))) == 0 {
		return nil
	}
	if faults := strictyaml.Decode(b, c); len(faults) > 0 {
		return faults
	}
	for i := range c.Listeners {
		l := &c.Listeners[i]
		if l.Scope == "" {
			l.Scope = "default"
		}
		if l.MinVersion == "" {
			l.MinVersion = "1.2"
		}
	}
	for i := range c.Routes {
		r := &c.Routes[i]
		if r.Host == "" {
			r.Host = "*"
		}
		if r.Path == "" {
			r.Path = "/"
		}
	}
	return nil
}

// Complete implements [settings.Completer].
func (c *Config) Complete(func(string) string) error {
	switch {
	case c.XDS != "":
	case c.XDSCert != "":
		c.XDS = "127.0.0.1:18000"
	default:
		path, err := place.Socket(0, func(string) string { return "" }) // that of lockstepd's unit
		if err != nil {
			return fmt.Errorf("xds: %w", err)
		}
		c.XDS = "unix:" + path
	}
	return nil
}

// Check implements [settings.Config].
func (c *Config) Check() (all []strictyaml.Fault) {
	bad := func(key, format string, a ...any) {
		all = append(all, strictyaml.Fault{Key: key, Text: fmt.Sprintf(format, a...)})
	}
	if c.Node == "" {
		bad("node", "node is empty: give each edge an id of its own")
	}
	switch {
	case (c.XDSCert == "") != (c.XDSKey == "") || (c.XDSCert == "") != (c.XDSCA == ""):
		bad("xds_cert", "xds_cert, xds_key and xds_ca go together")
	case c.XDSName != "" && c.XDSCert == "":
		bad("xds_name", "xds_name needs xds_cert, xds_key and xds_ca")
	}
	if c.TicketLifetime <= 0 || c.TicketLifetime > 24*time.Hour {
		bad("ticket_lifetime", "ticket_lifetime: %s is not between 0 and 24h", c.TicketLifetime)
	}
	if c.KEK != "" && c.DataDir == "" {
		bad("kek", "kek needs data_dir")
	}
	if c.AccessLog != "on" && c.AccessLog != "off" {
		bad("access_log", "access_log: %q is neither on nor off", c.AccessLog)
	}
	if err := logs.CheckLevel(c.LogLevel); err != nil {
		bad("log_level", "%v", err)
	}
	if err := logs.CheckFormat(c.LogFormat); err != nil {
		bad("log_format", "%v", err)
	}
	for _, at := range c.endpoints() {
		if path, socket := strings.CutPrefix(at, "unix:"); socket {
			if err := place.CheckSocket(path); err != nil {
				bad("xds", "xds: %v", err)
			}
		}
		if _, _, err := net.SplitHostPort(at); err != nil && !strings.HasPrefix(at, "unix:") {
			bad("xds", "xds: %q is neither host:port nor unix:/path", at)
		}
	}
	if _, err := c.preload(); err != nil {
		all = append(all, settings.Fault("", err))
	}
	p, err := c.proxy()
	if err != nil {
		return append(all, settings.Fault("", err))
	}
	for _, err := range p.Faults() {
		f := settings.Fault("", errors.New(strings.TrimPrefix(err.Error(), edgeproxy.ErrBadConfig.Error()+": ")))
		f.Text = err.Error()
		all = append(all, f)
	}
	return all
}

func (c *Config) endpoints() []string { return strings.Split(c.XDS, ",") }

func (c *Config) preload() (all []keysource.Name, _ error) {
	for _, s := range c.Preload {
		n, err := keysource.ServerName(s)
		if err != nil {
			return nil, fmt.Errorf("preload: %w", err)
		}
		all = append(all, n)
	}
	return all, nil
}

func (c *Config) proxy() (edgeproxy.Config, error) {
	p := edgeproxy.Config{Listeners: c.Listeners, Routes: c.Routes, Limits: c.Limits, Timeouts: c.Timeouts}
	for _, s := range c.TrustedProxies {
		prefix, err := netip.ParsePrefix(s)
		if err != nil {
			return p, fmt.Errorf("trusted_proxies: %q is no network such as 10.0.0.0/8", s)
		}
		p.TrustedProxies = append(p.TrustedProxies, prefix.Masked())
	}
	return p, nil
}
