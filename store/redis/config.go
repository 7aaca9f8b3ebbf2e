package redis

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"strconv"
	"strings"
)

// Config says where the store is. Secrets are given by path; the files are read at every connect,
// so they may be replaced.
type Config struct {
	// "host:port": the server; the Sentinels if Master is set; some of the cluster's servers if
	// Cluster is
	Servers []string
	Master  string // the name by which the Sentinels know the master
	Cluster bool
	DB      int // the number of a database; 0 with Cluster

	// Announced leads from addresses that Sentinels and clusters answer with, and that are not
	// reachable from here, to those that are. It is for servers behind NAT or in containers.
	Announced []Announced

	User         string // an ACL user, with PasswordFile; "" is the default user
	PasswordFile string

	SentinelUser         string // with SentinelPasswordFile
	SentinelPasswordFile string // read once, by Open

	TLS      bool   // to servers and Sentinels; implied by any of the files, and by TLSNames
	CAFile   string // PEM; "" is the system's
	CertFile string // PEM, with KeyFile: the client certificate
	KeyFile  string

	// TLSNames are names of which the certificate of every server and Sentinel has to have one. The
	// first one is asked for (SNI). Without TLSNames a certificate has to have the host of the
	// address that the URL, a Sentinel or the cluster gives, or Announced in its place.
	TLSNames []string

	Prefix string // [A-Za-z0-9_.:-], of all the store's keys in Redis; "" is "lockstep"
	NoWait bool   // Swap does not wait for a replica

	// nil: nothing is logged. Redis's client has one logger in a process: that of the store opened
	// last
	Log *slog.Logger
}

// ParseURL reads
//
//	redis://[user@]host[:6379][/0]
//	redis+sentinel://[user@]host[:26379],host[:26379]/mymaster[/0]
//	redis+cluster://[user@]host[:6379],host[:6379]
//
// or the same with rediss for TLS, and
// ?password_file=/path&tls_ca=/path&tls_cert=/path&tls_key=/path&tls_name=name,name&prefix=lockstep&wait=1,
// for Sentinel also sentinel_user=name&sentinel_password_file=/path, and for Sentinel and a cluster
// announce=host[:port]=host[:port],…, where each may be left out. wait=0 sets NoWait. A secret in
// the URL is refused; no error repeats more of it than a parameter's name, a host or a path.
func ParseURL(raw string) (Config, error) {
	scheme, rest, _ := strings.Cut(raw, "://")
	kind, ok := strings.CutPrefix(scheme, "redis")
	if !ok {
		return Config{}, errors.New("store: a Redis store's URL begins with redis://, rediss://, " +
			"redis+sentinel:// or redis+cluster://")
	}
	var c Config
	kind, c.TLS = strings.CutPrefix(kind, "s")
	rest, query, _ := strings.Cut(rest, "?")
	user, rest, ok := strings.Cut(rest, "@")
	if !ok {
		user, rest = "", user
	}
	if strings.Contains(user, ":") {
		return Config{}, errors.New("store: the URL has a password in it, which process lists and logs would show: " +
			"write it to a file and give password_file=/path")
	}
	if strings.Contains(rest, "@") {
		return Config{}, errors.New("store: the URL names more than one user: once, before the first host, is for all")
	}
	var err error
	if c.User, err = url.PathUnescape(user); err != nil {
		return Config{}, errors.New("store: the user in the URL is badly escaped")
	}
	hosts, path, _ := strings.Cut(rest, "/")
	port := "6379"
	switch kind {
	case "":
		if c.DB, err = database(path, "host"); err != nil {
			return Config{}, err
		}
	case "+sentinel":
		if port = "26379"; path == "" {
			return Config{}, errors.New("store: the URL lacks the master's name: redis+sentinel://host,host/mymaster")
		}
		var db string
		c.Master, db, _ = strings.Cut(path, "/")
		if c.DB, err = database(db, "master's name"); err != nil {
			return Config{}, err
		}
	case "+cluster":
		if c.Cluster = true; path != "" && path != "0" {
			return Config{}, fmt.Errorf("store: a Redis cluster has no database but 0, and the URL names %q: "+
				"leave it out; prefix=NAME parts several stores in one cluster", path)
		}
	default:
		return Config{}, fmt.Errorf("store: %s is none of redis, rediss, redis+sentinel and redis+cluster", scheme)
	}
	if c.Servers, err = servers(hosts, port); err != nil {
		return Config{}, err
	}
	if err := c.parameters(query); err != nil {
		return Config{}, err
	}
	return c, c.check()
}

// database reads the number of a database, which follows what in the URL; "" is 0.
func database(number, what string) (int, error) {
	if number == "" {
		return 0, nil
	}
	n, err := strconv.Atoi(number)
	if err != nil {
		return 0, fmt.Errorf("store: %q, which follows the %s, is not the number of a database", number, what)
	}
	return n, nil
}

func servers(hosts, port string) ([]string, error) {
	var addrs []string
	for _, host := range strings.Split(hosts, ",") {
		name, p, err := net.SplitHostPort(host)
		if err != nil { // no port, or an error of the next line too
			name, p, err = net.SplitHostPort(host + ":" + port)
		}
		if n, perr := strconv.ParseUint(p, 10, 16); err != nil || perr != nil || n == 0 || name == "" {
			return nil, fmt.Errorf("store: %q is not host:port", host)
		}
		addrs = append(addrs, net.JoinHostPort(name, p))
	}
	return addrs, nil
}

func (c *Config) parameters(query string) error {
	values, err := url.ParseQuery(query)
	if err != nil {
		return errors.New("store: what follows the ? of the URL is badly escaped")
	}
	known := map[string]*string{
		"password_file": &c.PasswordFile, "tls_ca": &c.CAFile, "tls_cert": &c.CertFile,
		"tls_key": &c.KeyFile, "prefix": &c.Prefix,
		"sentinel_user": &c.SentinelUser, "sentinel_password_file": &c.SentinelPasswordFile,
	}
	for name, vals := range values {
		to := known[name]
		switch {
		case len(vals) > 1:
			return fmt.Errorf("store: the URL gives %s twice", name)
		case name == "wait" && (vals[0] == "0" || vals[0] == "1"):
			c.NoWait = vals[0] == "0"
		case name == "tls_name":
			c.TLSNames = strings.Split(vals[0], ",")
		case name == "announce":
			if c.Announced, err = parseAnnounced(vals[0]); err != nil {
				return err
			}
		case name == "wait":
			return errors.New("store: wait in the URL is 1 (for a replica, where there is one) or 0")
		case name == "password" || name == "sentinel_password":
			return fmt.Errorf("store: the URL has a secret in it, which process lists and logs would show: "+
				"write it to a file and give %s_file=/path", name)
		case to == nil:
			return fmt.Errorf("store: the URL's parameter %q is none of %s", name,
				"password_file, tls_ca, tls_cert, tls_key, tls_name, announce, prefix, wait, sentinel_user, "+
					"sentinel_password_file")
		default:
			*to = vals[0]
		}
	}
	return nil
}

// nameBytes are those of host names and IP addresses.
const nameBytes = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.:"

// check fills in what was left out, and refuses what does not go together.
func (c *Config) check() error {
	if c.Prefix == "" {
		c.Prefix = "lockstep"
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	c.TLS = c.TLS || c.CAFile != "" || c.CertFile != "" || len(c.TLSNames) > 0
	for _, name := range c.TLSNames {
		if name == "" || strings.Trim(name, nameBytes) != "" ||
			strings.Contains(name, ":") && net.ParseIP(name) == nil {
			return fmt.Errorf("store: tls_name %.70q: the names that the certificates have, parted by commas, "+
				"without a port, a wildcard or brackets", name)
		}
	}
	switch {
	case len(c.Announced) > 0 && c.Master == "" && !c.Cluster:
		return errors.New("store: announce is for redis+sentinel:// and redis+cluster://, which answer with addresses")
	case len(c.Servers) == 0:
		return errors.New("store: no Redis server is given")
	case len(c.Servers) > 1 && c.Master == "" && !c.Cluster:
		return errors.New("store: redis:// is one server: for several there are redis+sentinel:// and redis+cluster://")
	case c.Master != "" && c.Cluster:
		return errors.New("store: a cluster has no Sentinels")
	case c.DB < 0 || c.Cluster && c.DB != 0:
		return fmt.Errorf("store: there is no database %d", c.DB)
	case c.User != "" && c.PasswordFile == "":
		return errors.New("store: a Redis user needs password_file")
	case c.SentinelUser != "" && c.SentinelPasswordFile == "":
		return errors.New("store: sentinel_user needs sentinel_password_file")
	case c.SentinelPasswordFile != "" && c.Master == "":
		return errors.New("store: sentinel_password_file is for redis+sentinel:// only")
	case (c.CertFile == "") != (c.KeyFile == ""):
		return errors.New("store: tls_cert and tls_key go together")
	case strings.Trim(c.Prefix, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.:-") != "" ||
		len(c.Prefix) > 64:
		return fmt.Errorf("store: prefix %.70q: letters, digits and _ . : - only, 64 at most", c.Prefix)
	}
	return nil
}
