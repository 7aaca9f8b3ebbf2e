// Package config is the configuration of lockstepd. The comments of [Config] are its manual.
//
// A file is parsed by package strictyaml, and flags by pflag, and by nothing else. A layering
// library would save the lines of package settings, and bring decoding rules of its own.
package config

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/lockstep-tls/lockstep/audit"
	"github.com/lockstep-tls/lockstep/cmd/internal/logs"
	"github.com/lockstep-tls/lockstep/cmd/internal/place"
	"github.com/lockstep-tls/lockstep/cmd/internal/settings"
	"github.com/lockstep-tls/lockstep/cmd/internal/strictyaml"
	"github.com/lockstep-tls/lockstep/rotation"
)

// Config is the configuration of lockstepd. It is one YAML file, decoded strictly. Every key is
// also a flag (xds_listen: --xds-listen) and an environment variable (LOCKSTEP_XDS_LISTEN). A flag
// wins over the environment, and the environment over the file. Scopes and listeners stand in the
// file only.
type Config struct {
	// DataDir holds the store, the sealing key, the admin token and this replica's name. One
	// process uses it at a time. Empty stands for /var/lib/lockstep if root runs lockstepd. For
	// others it stands for $XDG_STATE_HOME/lockstep (~/.local/state/lockstep).
	DataDir string `yaml:"data_dir"`
	// XDSListen is the address for nodes (gRPC: ADS, SDS, health). Empty stands for
	// unix:DataDir/xds.sock, which only lockstepd's own user can open. With XDSSocketGroup or
	// Policy it stands for a socket in a directory of its own. That is the service's
	// RuntimeDirectory, /run/lockstep for root, or $XDG_RUNTIME_DIR/lockstep for others. With
	// XDSCert or SPIFFESocket, or with XDSOpen, it stands for 127.0.0.1:18000. A socket always
	// speaks plaintext. A TCP address speaks mTLS with XDSCert, XDSKey and XDSClientCA, on loopback
	// too. Without them it speaks plaintext, on loopback only, and needs a Policy or XDSOpen.
	XDSListen string `yaml:"xds_listen"`
	// XDSSocketMode is the mode of the socket for nodes, such as 0660. Empty stands for 0600, for
	// 0660 with XDSSocketGroup, and for 0666 with a Policy, which says what each user may have.
	XDSSocketMode Octal `yaml:"xds_socket_mode"`
	// XDSSocketGroup is the group whose members may open the socket for nodes, by name or number.
	// It is for an Envoy of another user. The socket lies in a directory of its own then, with the
	// mode 0750 and that group, and not in DataDir.
	XDSSocketGroup string `yaml:"xds_socket_group"`
	// XDSOpen means that whoever can connect gets everything: each private key and each ticket key.
	// Plaintext TCP needs it if there is no Policy. With a Policy or mTLS it has no effect.
	XDSOpen bool `yaml:"xds_open"`
	// AdminListen is the address of the JSON API, /metrics, /healthz and /readyz. All but these
	// three need a token, or a certificate with a role in the policy. On loopback and
	// unix:/path it always speaks plaintext, so that the CLI finds it. Elsewhere it speaks mTLS
	// with the files of XDSListen, and the CLI needs --tls-ca, --tls-cert and --tls-key. Replicas
	// ask each other here for their nodes. If they are on several machines, it must be an address
	// or a name by which the others reach it. 0.0.0.0 stands for the machine's name.
	AdminListen string `yaml:"admin_listen"`
	// MetricsListen is a further address for /metrics, /healthz and /readyz, and nothing else, for
	// Prometheus and the kubelet. It speaks plaintext HTTP, and needs no token. It may be off
	// loopback: whoever reaches it sees names of hosts, nodes and scopes in the metrics. Without it
	// these three are on AdminListen only.
	MetricsListen string `yaml:"metrics_listen"`
	// NATSListen opens the embedded NATS server to others, on loopback only. They need the token in
	// DataDir/nats.token. Without it no port is open.
	NATSListen string `yaml:"nats_listen"`
	// Store is where keys are stored. It is embedded, or the URL of a store that several replicas
	// share: nats://host:4222,… or tls:// (JetStream), redis:// or rediss:// (one server),
	// redis+sentinel://host:26379,…/master, redis+cluster://host:6379,…. Passwords and other
	// secrets are given as paths of files: ?password_file=, ?creds=, ?tls_ca= and others. Redis
	// also takes /2 (a database), ?tls_name= and ?announce=, NATS ?max_bytes=, ?inbox_prefix= and
	// ?domain=. docs/replicas.md lists all of them. Replicas on one store need the same KEK.
	Store string `yaml:"store"`
	// Events carries events to other replicas and listeners. It is embedded, or the URL of a NATS
	// server (nats://host:4222).
	Events string `yaml:"events"`
	// Refresh is how often everything that is watched is read again without an event.
	Refresh time.Duration `yaml:"refresh"`
	// Canary is how long the first node may take to answer when the chain or key of a name changes.
	// One node of each kind (what it says it is, and its version) gets the new certificate before
	// the others. They get it when the first node has accepted it. They also get it when this time
	// is over, with a warning. They keep the last certificate if the first node refuses the new
	// one. With 0 all get it at once, as with lockstep cert put --now.
	Canary time.Duration `yaml:"canary"`
	// Certs is a directory of certificates, which is watched: <server name>/tls.crt and tls.key. A
	// wildcard's folder is _.example.com. It may be empty. The folders of certbot (live), acme.sh
	// and Caddy are taken too, and files such as shop.example.crt with shop.example.key, or
	// shop.example.pem with both.
	Certs string `yaml:"certs"`
	// KEK is where the sealing key is kept. It is a file, or credential:NAME, of systemd, or
	// env:VARIABLE, in base64, which is unset once it was read. Empty stands for
	// DataDir/sealing.key, which is made if it is missing while the store is empty.
	KEK string `yaml:"kek"`
	// KEKNew makes the file that KEK names if it is missing while the store is empty. Without
	// KEKNew that is an error, since a file on another disk may be missing by accident.
	KEKNew bool `yaml:"kek_new"`
	// XDSCert, XDSKey and XDSClientCA are PEM files for mTLS: this server's certificate and key,
	// and the CA of those who may connect. They are read again as they change.
	XDSCert     string `yaml:"xds_cert"`
	XDSKey      string `yaml:"xds_key"`
	XDSClientCA string `yaml:"xds_client_ca"`
	// AdminClientCA is a PEM file with the CA of those who may use the admin API where it speaks
	// mTLS. Besides a certificate of it they need a token, or a role by the policy. Without it,
	// certificates of XDSClientCA can connect, and need the same. With SPIFFESocket there is none.
	AdminClientCA string `yaml:"admin_client_ca"`
	// SPIFFESocket is the address of a SPIFFE Workload API (unix:/run/spire/agent.sock). It
	// replaces the three files: this server's certificate, and the CAs of those who may connect,
	// come from there. Without a policy, nodes of its own trust domain are accepted.
	SPIFFESocket string `yaml:"spiffe_socket"`
	// Policy is the file that says which node may have what (policy.yaml), by its identity. That is
	// the SPIFFE ID or the DNS names of its certificate, or unix:uid=1000 on a unix socket, which
	// is then open to all users unless XDSSocketMode or XDSSocketGroup says otherwise. What no rule
	// grants is denied. The file is read again as it changes, and then counts for connected nodes
	// too. A bad one is refused, and the last good one stays. Without a policy whoever can connect
	// gets everything.
	Policy string `yaml:"policy"`

	// NodeNames is how many names a node may hold whose certificates it fetched on demand, over
	// ADS. Above it those that were fetched first are removed again, 50 a second at most.
	// WildcardNames is how many of them may be under one wildcard. Above it the oldest of them are
	// removed at the same pace, and names that come more quickly do not exist for the node. Names
	// that were removed in the last minutes come back when they are asked for.
	NodeNames     int `yaml:"node_names"`
	WildcardNames int `yaml:"wildcard_names"`

	// ExpectedNodes are the ids of nodes that should be connected. Those that are not are named by
	// lockstep status and lockstep nodes --all.
	ExpectedNodes []string `yaml:"expected_nodes"`

	// AuditFile is a file to which the audit log is appended, besides the store. It has JSON lines,
	// each synced. It may be moved away (logrotate).
	AuditFile string `yaml:"audit_file"`
	// AuditSyslog sends the audit log to syslog too. It is local, unix:/path or tcp://host:port.
	AuditSyslog string `yaml:"audit_syslog"`

	// LogLevel is what is logged at least: debug, info, warn or error. LogFormat is json or text.
	LogLevel  string `yaml:"log_level"`
	LogFormat string `yaml:"log_format"`

	// Scopes are the sets of ticket keys, by name. The scope "default" always exists. Each takes:
	// period (1h), ticket_lifetime (2h), max_key_age (4h), quorum (90%), laggard (wait, or a
	// duration), refuse_grace (5m), node_lease (75s), client_certs (none, or the SHA-256 of a CA's
	// certificate, or a list of these).
	Scopes map[string]rotation.Policy `yaml:"-"`

	// Listeners is the listener that lockstepd serves to Envoys.
	Listeners Listeners `yaml:"listeners"`

	unnamedDir bool        // unnamedDir reports whether no setting names DataDir.
	ownDir     bool        // ownDir says that the directory of the socket is its own.
	socketMode fs.FileMode // socketMode is XDSSocketMode. It is 0 if that is empty.
}

// Default returns the configuration without any setting.
func Default() Config {
	return Config{
		AdminListen: "127.0.0.1:18080", Store: "embedded", Events: "embedded",
		Refresh: 5 * time.Second, Canary: 2 * time.Second, NodeNames: 20_000,
		WildcardNames: 1000, LogLevel: logs.DefaultLevel, LogFormat: logs.DefaultFormat,
		Scopes: map[string]rotation.Policy{"default": rotation.DefaultPolicy()},
	}
}

// Flags binds c's keys to flags whose values so far are the defaults.
func (c *Config) Flags(f *pflag.FlagSet) {
	f.StringVar(&c.DataDir, "data-dir", c.DataDir, "where the store, the sealing key and the admin token live "+
		"(default /var/lib/lockstep; not as root: $XDG_STATE_HOME/lockstep)")
	f.StringVar(&c.XDSListen, "xds-listen", c.XDSListen,
		"address for nodes: unix:/path, or host:port with mTLS (default unix:<data-dir>/xds.sock)")
	f.StringVar((*string)(&c.XDSSocketMode), "xds-socket-mode", string(c.XDSSocketMode),
		"mode of that socket (default 0600; 0660 with --xds-socket-group, 0666 with --policy)")
	f.StringVar(&c.XDSSocketGroup, "xds-socket-group", c.XDSSocketGroup,
		"group that may open that socket, which then lies in a directory of its own (default /run/lockstep)")
	f.BoolVar(&c.XDSOpen, "xds-open", c.XDSOpen,
		"whoever can connect gets everything: plaintext TCP on loopback without a policy needs this")
	f.StringVar(&c.AdminListen, "admin-listen", c.AdminListen,
		"address of the admin API, /metrics, /healthz, /readyz; mTLS unless loopback or unix:/path")
	f.StringVar(&c.MetricsListen, "metrics-listen", c.MetricsListen,
		"further address, in plaintext, for /metrics, /healthz and /readyz alone")
	f.StringVar(&c.NATSListen, "nats-listen", c.NATSListen,
		"open the embedded NATS server to others on this loopback address")
	f.StringVar(&c.Store, "store", c.Store, "where keys live: embedded, or the URL of a NATS JetStream or Redis "+
		"store that replicas share")
	f.StringVar(&c.Events, "events", c.Events, "embedded, or the URL of a NATS server")
	f.DurationVar(&c.Refresh, "refresh", c.Refresh, "how often all that is watched is read again")
	f.DurationVar(&c.Canary, "canary", c.Canary, "how long the first node of a kind may take to accept a changed "+
		"certificate, before the others get it; 0: all at once")
	f.StringVar(&c.Certs, "certs", c.Certs, "directory of certificates: <server name>/tls.crt and tls.key")
	f.StringVar(&c.KEK, "kek", c.KEK, "the sealing key: a file, credential:NAME or env:VARIABLE (default "+
		"<data-dir>/sealing.key)")
	f.BoolVar(&c.KEKNew, "kek-new", c.KEKNew, "make the file of --kek if it is missing while the store is empty")
	f.StringVar(&c.XDSCert, "xds-cert", c.XDSCert, "PEM file: this server's certificate for mTLS")
	f.StringVar(&c.XDSKey, "xds-key", c.XDSKey, "PEM file: its private key")
	f.StringVar(&c.XDSClientCA, "xds-client-ca", c.XDSClientCA, "PEM file: the CA of the nodes' certificates")
	f.StringVar(&c.AdminClientCA, "admin-client-ca", c.AdminClientCA,
		"PEM file: the CA of those who may use the admin API, where it speaks mTLS")
	f.IntVar(&c.NodeNames, "node-names", c.NodeNames, "names that a node may hold of those that it fetched on demand")
	f.IntVar(&c.WildcardNames, "wildcard-names", c.WildcardNames, "of them, names under one wildcard")
	f.Var((*list)(&c.ExpectedNodes), "expected-nodes", "ids of nodes that should be connected, with commas between")
	f.StringVar(&c.AuditFile, "audit-file", c.AuditFile, "file that the audit log is appended to, besides the store")
	f.StringVar(&c.AuditSyslog, "audit-syslog", c.AuditSyslog,
		"syslog that gets the audit log too: local, unix:/path or tcp://host:port")
	f.StringVar(&c.LogLevel, "log-level", c.LogLevel, "what is logged at least: debug, info, warn or error")
	f.StringVar(&c.LogFormat, "log-format", c.LogFormat, "json or text")
	f.StringVar(&c.SPIFFESocket, "spiffe-socket", c.SPIFFESocket,
		"SPIFFE Workload API (unix:/path) that gives certificate and CAs, instead of the three files")
	f.StringVar(&c.Policy, "policy", c.Policy, "file that says which node may have what (policy.yaml); without it "+
		"whoever can connect gets everything")
}

// Load fills c, whose flags f has parsed. It reads file (if not empty), then the environment, then
// the flags that were given.
func (c *Config) Load(file string, f *pflag.FlagSet, getenv func(string) string) error {
	return settings.From(file, prefix, f, getenv).Read(c, f)
}

// prefix is that of the environment variables.
const prefix = "LOCKSTEP_"

// file is a file of the configuration.
type file struct {
	Config `yaml:",inline"`
	Scopes map[string]*policyFile `yaml:"scopes"`
}

// Parse implements [settings.Config].
func (c *Config) Parse(b []byte) (faults []strictyaml.Fault) {
	f := file{Config: *c}
	if len(strings.TrimSpace(string(b))) == 0 {
		return nil
	}
	if faults = strictyaml.Decode(b, &f); len(faults) > 0 {
		return faults
	}
	*c = f.Config
	for _, name := range slices.Sorted(maps.Keys(f.Scopes)) {
		policy, err := f.Scopes[name].policy()
		if err != nil {
			faults = append(faults, inScope(name, err))
			continue
		}
		c.Scopes[name] = policy
	}
	return faults
}

// inScope makes a fault of an error about a scope.
func inScope(name string, err error) strictyaml.Fault {
	f := settings.Fault("scopes."+name, err)
	f.Text = fmt.Sprintf("scopes: %s: %s", name, f.Text)
	return f
}

var storeURLs = []string{"nats://", "tls://", "redis://", "rediss://", "redis+sentinel://", "rediss+sentinel://",
	"redis+cluster://", "rediss+cluster://"}

// Complete implements [settings.Completer].
func (c *Config) Complete(getenv func(string) string) error { return c.places(os.Geteuid(), getenv) }

// Check implements [settings.Config].
func (c *Config) Check() (all []strictyaml.Fault) {
	bad := func(key string, err error) {
		all = append(all, strictyaml.Fault{Key: key, Text: err.Error()})
	}
	if c.Store != "embedded" && !slices.ContainsFunc(storeURLs,
		func(scheme string) bool { return strings.HasPrefix(c.Store, scheme) }) {
		bad("store", fmt.Errorf("store: %q is neither embedded nor one of %s", settings.RedactURL(c.Store),
			strings.Join(storeURLs, " ")))
	}
	switch {
	case c.Events != "embedded" && !strings.HasPrefix(c.Events, "nats://") && !strings.HasPrefix(c.Events, "tls://"):
		bad("events", fmt.Errorf("events: %q is neither embedded nor the URL of a NATS server (nats://host:4222)",
			settings.RedactURL(c.Events)))
	case c.Events != "embedded" && strings.Contains(c.Events, "?"):
		bad("events", fmt.Errorf("events: %q has parameters, and none is taken there: give nats://host:4222, or "+
			"nats://user:password@host:4222", settings.RedactURL(c.Events)))
	case c.Events != "embedded" && c.NATSListen != "":
		bad("nats_listen", errors.New(
			"nats_listen opens the embedded NATS server, and events names another: drop one of them"))
	}
	if c.Refresh < 100*time.Millisecond || c.Refresh > time.Hour {
		bad("refresh", fmt.Errorf("refresh: %s is not between 100ms and 1h", c.Refresh))
	}
	if c.Canary != 0 && (c.Canary < 100*time.Millisecond || c.Canary > time.Minute) {
		bad("canary", fmt.Errorf("canary: %s is neither 0 nor between 100ms and 1m", c.Canary))
	}
	if c.NodeNames < 1 || c.NodeNames > 100_000 {
		bad("node_names", fmt.Errorf("node_names: %d is not between 1 and 100000", c.NodeNames))
	}
	if c.WildcardNames < 1 || c.WildcardNames > 100_000 {
		bad("wildcard_names", fmt.Errorf("wildcard_names: %d is not between 1 and 100000", c.WildcardNames))
	}
	if slices.Contains(c.ExpectedNodes, "") {
		bad("expected_nodes", errors.New("expected_nodes: an id is empty"))
	}
	switch {
	case (c.XDSCert == "") != (c.XDSKey == "") || (c.XDSCert == "") != (c.XDSClientCA == ""):
		bad("xds_cert", errors.New("xds_cert, xds_key and xds_client_ca go together"))
	case c.AdminClientCA != "" && c.XDSCert == "":
		bad("admin_client_ca", errors.New("admin_client_ca goes with xds_cert, xds_key and xds_client_ca: "+
			"with spiffe_socket a rule of the policy with admin: [read] says who may use the admin API"))
	case c.AdminClientCA != "" && (strings.HasPrefix(c.AdminListen, "unix:") || Loopback(c.AdminListen)):
		bad("admin_client_ca", fmt.Errorf("admin_client_ca: the admin API speaks plaintext on %s, where nobody shows "+
			"a certificate: drop it, or set admin_listen to another address", c.AdminListen))
	case c.SPIFFESocket != "" && c.XDSCert != "":
		bad("spiffe_socket",
			errors.New("spiffe_socket takes the place of xds_cert, xds_key and xds_client_ca: drop one of them"))
	case c.SPIFFESocket != "" && !strings.HasPrefix(c.SPIFFESocket, "unix:") && !strings.HasPrefix(c.SPIFFESocket,
		"tcp:"):
		bad("spiffe_socket",
			fmt.Errorf("spiffe_socket: %q is neither unix:/path nor tcp://address:port", c.SPIFFESocket))
	}
	if err := logs.CheckLevel(c.LogLevel); err != nil {
		bad("log_level", err)
	}
	if err := logs.CheckFormat(c.LogFormat); err != nil {
		bad("log_format", err)
	}
	if c.AuditSyslog != "" {
		if err := audit.CheckSyslog(c.AuditSyslog); err != nil {
			bad("audit_syslog", fmt.Errorf("audit_syslog: %w", err))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(c.Scopes)) {
		if !scopeName(name) {
			bad("scopes."+name, fmt.Errorf("scopes: %q: a scope's name has 1 to 63 of a-z, 0-9, - and _", name))
		}
		if err := c.Scopes[name].Check(); err != nil {
			all = append(all, inScope(name, err))
		}
	}
	if err := c.Listeners.check(c.Scopes); err != nil {
		f := settings.Fault("listeners", err)
		f.Text = "listeners: " + f.Text
		all = append(all, f)
	}
	if err := c.checkNodes(); err != nil {
		all = append(all, settings.Fault("", err))
	}
	for _, a := range []struct{ key, addr string }{{"xds_listen", c.XDSListen}, {"admin_listen", c.AdminListen}} {
		if err := c.checkListen(a.addr); err != nil {
			bad(a.key, fmt.Errorf("%s: %w", a.key, err))
		}
	}
	if path, socket := strings.CutPrefix(c.MetricsListen, "unix:"); socket {
		if err := place.CheckSocket(path); err != nil {
			bad("metrics_listen", fmt.Errorf("metrics_listen: %w", err))
		}
	} else if a := c.MetricsListen; a != "" {
		if _, _, err := net.SplitHostPort(a); err != nil {
			bad("metrics_listen", fmt.Errorf("metrics_listen: %q is not host:port or unix:/path: %w", a, err))
		}
	}
	return all
}

// checkListen refuses an address at which plaintext would leave the machine.
func (c *Config) checkListen(addr string) error {
	if path, socket := strings.CutPrefix(addr, "unix:"); socket {
		return place.CheckSocket(path)
	}
	if _, _, err := net.SplitHostPort(addr); err != nil {
		return fmt.Errorf("%q is not host:port or unix:/path: %w", addr, err)
	}
	if !Loopback(addr) && !c.MTLS() {
		return fmt.Errorf(
			"%s is not a loopback address: plaintext is refused there; give xds_cert, xds_key and xds_client_ca, "+
				"or spiffe_socket", addr)
	}
	return nil
}

// MTLS reports whether there are certificates for mTLS.
func (c *Config) MTLS() bool { return c.XDSCert != "" || c.SPIFFESocket != "" }

// Loopback reports whether addr (host:port) is reached from this machine only.
func Loopback(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return false
	}
	if host == "localhost" {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

func scopeName(s string) bool {
	return s != "" && len(s) <= 63 && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789-_") == ""
}
