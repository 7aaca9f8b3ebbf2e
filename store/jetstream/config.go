package jetstream

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// Config says where the store is. Secrets are given by path; the files are read at every connect,
// so they may be replaced.
type Config struct {
	// "nats://host:port" or "tls://host:port"; at least one; others of the cluster are discovered
	Servers []string

	User         string // with PasswordFile
	PasswordFile string
	TokenFile    string
	CredsFile    string // a .creds file: JWT and NKey seed
	NKeyFile     string // an NKey seed

	CAFile   string // PEM; "" is the system's, where the server wants TLS
	CertFile string // PEM, with KeyFile: the client certificate
	KeyFile  string

	Bucket   string // [A-Za-z0-9_-]; names the store within the account; "" is "lockstep"
	Replicas int    // on how many servers each value is kept, 1 to 5; 0 is 3

	// MaxBytes is how much the bucket may hold, for accounts that demand a limit. A bucket that is
	// full refuses writes. 0 is no limit.
	MaxBytes int64
	// Domain is the JetStream domain that has the bucket; "" is that of the server.
	Domain string
	// InboxPrefix begins the subjects of answers, for users who may not listen to _INBOX.>.
	InboxPrefix string

	Log *slog.Logger // nil: nothing is logged
}

// ParseURL reads
// nats://[user@]host[:4222],host[:4222]?creds=/path&nkey=/path&password_file=/path&token_file=/path&tls_ca=/path&
// tls_cert=/path&tls_key=/path&bucket=lockstep&replicas=3&max_bytes=64MB&domain=name&
// inbox_prefix=_INBOX_me, where everything but one host may be left out; tls:// insists on TLS. A
// secret in it is refused; no error repeats more of the URL than
// a parameter's name or a host.
func ParseURL(raw string) (Config, error) {
	scheme, rest, _ := strings.Cut(raw, "://")
	if scheme != "nats" && scheme != "tls" {
		return Config{}, errors.New("store: a NATS store's URL begins with nats:// or tls://")
	}
	rest, query, _ := strings.Cut(rest, "?")
	user, hosts, ok := strings.Cut(rest, "@")
	if !ok {
		user, hosts = "", rest
	}
	if strings.Contains(user, ":") {
		return Config{}, errors.New("store: the URL has a password in it, which process lists and logs would show: " +
			"write it to a file and give password_file=/path")
	}
	if strings.Contains(hosts, "@") {
		return Config{}, errors.New("store: the URL names more than one user: once, before the first host, is for all")
	}
	var c Config
	var err error
	if c.User, err = url.PathUnescape(user); err != nil {
		return Config{}, errors.New("store: the user in the URL is badly escaped")
	}
	if c.Servers, err = servers(scheme, strings.TrimSuffix(hosts, "/")); err != nil {
		return Config{}, err
	}
	if err := c.parameters(query); err != nil {
		return Config{}, err
	}
	return c, c.check()
}

func servers(scheme, hosts string) ([]string, error) {
	var urls []string
	for _, host := range strings.Split(hosts, ",") {
		name, port, err := net.SplitHostPort(host)
		if err != nil { // no port, or an error of the next line too
			name, port, err = net.SplitHostPort(host + ":4222")
		}
		if n, perr := strconv.ParseUint(port, 10, 16); err != nil || perr != nil || n == 0 ||
			name == "" || strings.Contains(name, "/") {
			return nil, fmt.Errorf("store: %q is not host:port", host)
		}
		urls = append(urls, scheme+"://"+net.JoinHostPort(name, port))
	}
	return urls, nil
}

func (c *Config) parameters(query string) error {
	values, err := url.ParseQuery(query)
	if err != nil {
		return errors.New("store: what follows the ? of the URL is badly escaped")
	}
	known := map[string]*string{
		"password_file": &c.PasswordFile, "token_file": &c.TokenFile, "creds": &c.CredsFile, "nkey": &c.NKeyFile,
		"tls_ca": &c.CAFile, "tls_cert": &c.CertFile, "tls_key": &c.KeyFile, "bucket": &c.Bucket,
		"domain": &c.Domain, "inbox_prefix": &c.InboxPrefix,
	}
	for name, vals := range values {
		to := known[name]
		switch {
		case len(vals) > 1:
			return fmt.Errorf("store: the URL gives %s twice", name)
		case name == "replicas":
			if c.Replicas, err = strconv.Atoi(vals[0]); err != nil {
				return errors.New("store: replicas in the URL is not a number")
			}
		case name == "max_bytes":
			if c.MaxBytes, err = size(vals[0]); err != nil {
				return err
			}
		case (name == "domain" || name == "inbox_prefix") && vals[0] == "":
			return fmt.Errorf("store: %s in the URL is empty: give it a value, or leave it out", name)
		case name == "password" || name == "token":
			return fmt.Errorf("store: the URL has a secret in it, which process lists and logs would show: "+
				"write it to a file and give %s_file=/path", name)
		case to == nil:
			return fmt.Errorf("store: the URL's parameter %q is none of %s",
				name, "bucket, replicas, max_bytes, domain, inbox_prefix, creds, nkey, password_file, "+
					"token_file, tls_ca, tls_cert, tls_key")
		default:
			*to = vals[0]
		}
	}
	return nil
}

// size reads a number of bytes as nats does: 64MB and 64MiB are 64 << 20 bytes.
func size(text string) (int64, error) {
	digits := strings.TrimRight(text, "KMGTiBkmgtb")
	n, err := strconv.ParseInt(digits, 10, 64)
	shift, ok := map[string]int{"": 0, "k": 10, "m": 20, "g": 30, "t": 40}[strings.TrimSuffix(
		strings.TrimSuffix(strings.ToLower(text[len(digits):]), "b"), "i")]
	if err != nil || !ok || n <= 0 || n > math.MaxInt64>>shift {
		return 0, fmt.Errorf("store: max_bytes=%.40q in the URL is not a size such as 64MB or 67108864", text)
	}
	return n << shift, nil
}

const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-"

// prefix reports whether s may begin subjects.
func prefix(s string) bool {
	return len(s) <= 64 && !slices.ContainsFunc(strings.Split(s, "."), func(token string) bool {
		return token == "" || strings.Trim(token, letters+"$=") != ""
	})
}

// check fills in what was left out, and refuses what does not go together.
func (c *Config) check() error {
	if c.Bucket == "" {
		c.Bucket = "lockstep"
	}
	if c.Replicas == 0 {
		c.Replicas = 3
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	ways := slices.DeleteFunc([]string{c.PasswordFile, c.TokenFile, c.CredsFile, c.NKeyFile}, func(s string) bool {
		return s == ""
	})
	switch {
	case len(c.Servers) == 0:
		return errors.New("store: no NATS server is given")
	case len(ways) > 1:
		return errors.New("store: more than one of password, token, creds and nkey is given: which one is it?")
	case (c.User == "") != (c.PasswordFile == ""):
		return errors.New("store: a NATS user and password_file go together")
	case (c.CertFile == "") != (c.KeyFile == ""):
		return errors.New("store: tls_cert and tls_key go together")
	case strings.Trim(c.Bucket, letters) != "" || len(c.Bucket) > 64:
		return fmt.Errorf("store: bucket %.70q: letters, digits, _ and - only, 64 at most", c.Bucket)
	case c.MaxBytes != 0 && c.MaxBytes < 1<<20:
		return fmt.Errorf("store: max_bytes is %d: 1MB at least, and 64MB for some thousand hosts", c.MaxBytes)
	case strings.Trim(c.Domain, letters) != "" || len(c.Domain) > 64:
		return fmt.Errorf("store: domain %.70q: letters, digits, _ and - only, 64 at most", c.Domain)
	case c.InboxPrefix != "" && !prefix(c.InboxPrefix):
		return fmt.Errorf("store: inbox_prefix %.70q: letters, digits, _ and -, parted by dots, such as _INBOX_me; "+
			"what the user may subscribe to ends in .>, the prefix does not", c.InboxPrefix)
	case c.Replicas < 1 || c.Replicas > 5:
		return fmt.Errorf("store: replicas is %d: from 1 to 5, and 3 for a cluster of three", c.Replicas)
	}
	return nil
}
