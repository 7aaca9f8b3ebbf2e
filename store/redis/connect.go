package redis

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// How long a server is waited for. The Sentinels are asked within a dial, one after the other where
// one stalls, so theirs is longer.
const (
	dialTimeout  = time.Second
	readTimeout  = 2 * time.Second
	sentinelTime = time.Second // for one answer of a Sentinel, and of its master
	followTime   = 5 * time.Second

	// A connection to Sentinel's master is replaced at this age, by asking for the master again: a
	// switch may go unannounced.
	sentinelConnAge = 10 * time.Second
)

// backend leads to the server that has the store.
type backend struct {
	// the master, and how to call it in errors
	node func(context.Context) (c *redis.Client, name string, err error)
	// looks for the master anew, after an error
	astray func(context.Context)
	close  func() error
}

// connect starts nothing: clients connect when they are used.
func (c *Config) connect() (*backend, error) {
	if _, err := c.tls("-"); err != nil {
		return nil, err
	}
	if _, _, err := c.credentials(context.Background()); err != nil {
		return nil, err
	}
	redis.SetLogger(clientLog{c.Log})
	switch {
	case c.Master != "":
		return c.sentinel()
	case c.Cluster:
		return c.cluster(), nil
	}
	client := redis.NewClient(&redis.Options{
		Addr: c.Servers[0], DB: c.DB, Dialer: c.dial, CredentialsProviderContext: c.credentials,
		Protocol: 2, MaxRetries: -1, DialerRetries: 1, DialTimeout: dialTimeout,
		ReadTimeout: readTimeout, ContextTimeoutEnabled: true, PipelinePoolSize: -1, DisableIdentity: true,
	})
	return fixed(client, "Redis at "+c.Servers[0]), nil
}

// Faults returns everything that is wrong with the files that c names. Open returns the first of
// them. Faults connects to nobody.
func (c *Config) Faults() (all []error) {
	if _, err := c.tls("-"); err != nil {
		all = append(all, err)
	}
	if _, _, err := c.credentials(context.Background()); err != nil {
		all = append(all, err)
	}
	if c.SentinelPasswordFile != "" {
		if _, err := secret(c.SentinelPasswordFile); err != nil {
			all = append(all, err)
		}
	}
	return all
}

func (c *Config) sentinel() (*backend, error) {
	var password string
	var err error
	if c.SentinelPasswordFile != "" {
		if password, err = secret(c.SentinelPasswordFile); err != nil {
			return nil, err
		}
	}
	client := redis.NewFailoverClient(&redis.FailoverOptions{
		MasterName: c.Master, SentinelAddrs: c.Servers, SentinelUsername: c.SentinelUser, SentinelPassword: password,
		DB: c.DB, Dialer: c.dial, CredentialsProviderContext: c.credentials,
		Protocol: 2, MaxRetries: -1, DialerRetries: 1, DialTimeout: followTime,
		ReadTimeout: sentinelTime, ContextTimeoutEnabled: true,
		PipelinePoolSize: -1, DisableIdentity: true, ConnMaxLifetime: sentinelConnAge,
	})
	return fixed(client, fmt.Sprintf("Redis master %s of the Sentinels at %s",
		c.Master, strings.Join(c.Servers, ", "))), nil
}

func fixed(client *redis.Client, name string) *backend {
	return &backend{
		node:   func(context.Context) (*redis.Client, string, error) { return client, name, nil },
		astray: func(context.Context) {},
		close:  client.Close,
	}
}

// cluster uses the library's view of the cluster, and the clients of its servers, but not its
// redirections, which send again what may have been done.
func (c *Config) cluster() *backend {
	client := redis.NewClusterClient(&redis.ClusterOptions{
		Addrs: c.Servers, Dialer: c.dial, CredentialsProviderContext: c.credentials,
		Protocol: 2, MaxRetries: -1, MaxRedirects: -1, DialerRetries: 1, DialTimeout: dialTimeout,
		ReadTimeout: readTimeout, ContextTimeoutEnabled: true, PipelinePoolSize: -1, DisableIdentity: true,
	})
	slot := newLayout(c.Prefix).meta
	return &backend{
		node: func(ctx context.Context) (*redis.Client, string, error) {
			node, err := client.MasterForKey(ctx, slot)
			if err != nil {
				return nil, "Redis cluster " + strings.Join(c.Servers, ", "), err
			}
			return node, "Redis at " + node.Options().Addr + ", of a cluster", nil
		},
		astray: client.ReloadState,
		close:  client.Close,
	}
}

// dial connects to a server or a Sentinel. An error is of type [*unreached].
func (c *Config) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	u := &unreached{config: c, addr: addr, to: c.reach(addr)}
	dialer := net.Dialer{KeepAlive: 15 * time.Second}
	conn, err := dialer.DialContext(ctx, network, u.to)
	if err != nil {
		u.err = err
		return nil, u
	}
	if !c.TLS {
		return conn, nil
	}
	secure, err := c.handshake(ctx, conn, u.to)
	if err != nil {
		u.err, u.connected = err, true
		return nil, errors.Join(u, conn.Close())
	}
	return secure, nil
}

func (c *Config) handshake(ctx context.Context, conn net.Conn, addr string) (net.Conn, error) {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	config, err := c.tls(host)
	if err != nil {
		return nil, err
	}
	secure := tls.Client(conn, config)
	return secure, secure.HandshakeContext(ctx)
}

// tls is the configuration for a server of that host, nil where TLS is off.
func (c *Config) tls(host string) (*tls.Config, error) {
	if !c.TLS {
		return nil, nil
	}
	config := &tls.Config{ServerName: host, MinVersion: tls.VersionTLS12}
	if c.CAFile != "" {
		pem, err := os.ReadFile(c.CAFile)
		if err != nil {
			return nil, fmt.Errorf("store: tls_ca: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("store: tls_ca %s has no certificate in PEM", c.CAFile)
		}
	}
	if c.CertFile != "" {
		pair, err := tls.LoadX509KeyPair(c.CertFile, c.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("store: tls_cert %s with tls_key %s: %w", c.CertFile, c.KeyFile, err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	if len(c.TLSNames) > 0 {
		config.ServerName = c.TLSNames[0]
	}
	if len(c.TLSNames) > 1 {
		config.InsecureSkipVerify = true // crypto/tls knows one name only: verify takes its place
		config.VerifyConnection = func(state tls.ConnectionState) error {
			return verify(state.PeerCertificates, config.RootCAs, c.TLSNames)
		}
	}
	return config, nil
}

// verify checks a chain as crypto/tls does, but for one of several names.
func verify(chain []*x509.Certificate, roots *x509.CertPool, names []string) error {
	if len(chain) == 0 {
		return errors.New("store: the server has no certificate")
	}
	options := x509.VerifyOptions{Roots: roots, Intermediates: x509.NewCertPool()}
	for _, c := range chain[1:] {
		options.Intermediates.AddCert(c)
	}
	_, err := chain[0].Verify(options)
	if err == nil {
		for _, name := range names {
			if err = chain[0].VerifyHostname(name); err == nil {
				return nil
			}
		}
	}
	return &tls.CertificateVerificationError{UnverifiedCertificates: chain, Err: err}
}

// credentials are read for each connection.
func (c *Config) credentials(context.Context) (user, password string, err error) {
	if c.PasswordFile == "" {
		return "", "", nil
	}
	password, err = secret(c.PasswordFile)
	return c.User, password, err
}

func secret(path string) (string, error) {
	b, err := os.ReadFile(path)
	if err == nil && len(bytes.TrimSpace(b)) == 0 {
		err = errors.New("it is empty")
	}
	if err != nil {
		return "", fmt.Errorf("store: secret in %s: %w", path, err)
	}
	return string(bytes.TrimSpace(b)), nil
}

// clientLog takes what Redis's client has to say, of which errors say what matters.
type clientLog struct{ log *slog.Logger }

func (l clientLog) Printf(ctx context.Context, format string, v ...any) {
	if l.log.Enabled(ctx, slog.LevelDebug) {
		l.log.DebugContext(ctx, "the store's Redis client: "+fmt.Sprintf(format, v...))
	}
}
