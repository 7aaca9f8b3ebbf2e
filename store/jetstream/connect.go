package jetstream

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
)

// How fast a server that has stopped answering is left for another one: a lost connection is seen
// at once, a stalled server after 2 to 3 pings.
const (
	dialTimeout   = 2 * time.Second
	reconnectWait = 200 * time.Millisecond
	pingInterval  = 2 * time.Second
	pingsOut      = 2
)

// connect connects. What the servers refuse later goes to refused.
func (c *Config) connect(refused func(error)) (*nats.Conn, error) {
	opts := []nats.Option{
		nats.Name("lockstep store " + c.Bucket),
		nats.Timeout(dialTimeout),
		nats.MaxReconnects(-1),
		nats.ReconnectWait(reconnectWait),
		nats.ReconnectJitter(reconnectWait, reconnectWait),
		// a write that waits for a connection would be done after its caller has given up
		nats.ReconnectBufSize(-1),
		nats.IgnoreAuthErrorAbort(),
		nats.PingInterval(pingInterval),
		nats.MaxPingsOutstanding(pingsOut),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil {
				c.Log.Warn("the connection to the store is lost; connecting again", "error", err)
			}
		}),
		nats.ReconnectHandler(func(conn *nats.Conn) {
			c.Log.Info("connected to the store again", "server", conn.ConnectedUrlRedacted())
		}),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			c.Log.Warn("the store's NATS server complains", "error", err)
			refused(err)
		}),
	}
	if c.InboxPrefix != "" {
		opts = append(opts, nats.CustomInboxPrefix(c.InboxPrefix))
	}
	credentials, err := c.credentials()
	if err != nil {
		return nil, err
	}
	opts = append(append(opts, credentials...), c.tls()...)
	conn, err := nats.Connect(strings.Join(c.Servers, ","), opts...)
	if err != nil {
		return nil, c.unconnected(err)
	}
	return conn, nil
}

func (c *Config) unconnected(err error) error {
	return fmt.Errorf("store: connecting to NATS at %s: %w%s", strings.Join(c.Servers, ", "), err,
		unconnectedAdvice(err))
}

// Faults returns everything that is wrong with the files that c names. Open returns the first of
// them. Faults connects to nobody.
func (c *Config) Faults() (all []error) {
	if _, err := c.credentials(); err != nil {
		all = append(all, err)
	}
	for _, option := range c.tls() {
		o := nats.GetDefaultOptions()
		if err := option(&o); err != nil { // it reads its files here, as in nats.Connect
			all = append(all, c.unconnected(err))
		}
	}
	return all
}

func (c *Config) credentials() ([]nats.Option, error) {
	var opts []nats.Option
	switch {
	case c.CredsFile != "":
		if _, err := secret(c.CredsFile); err != nil {
			return nil, err
		}
		opts = append(opts, nats.UserCredentials(c.CredsFile))
	case c.NKeyFile != "":
		nkey, err := nats.NkeyOptionFromSeed(c.NKeyFile)
		if err != nil {
			return nil, fmt.Errorf("store: nkey %s: %w", c.NKeyFile, err)
		}
		opts = append(opts, nkey)
	case c.PasswordFile != "":
		if _, err := secret(c.PasswordFile); err != nil {
			return nil, err
		}
		opts = append(opts, nats.UserInfoHandler(func() (string, string) { return c.User, c.latest(c.PasswordFile) }))
	case c.TokenFile != "":
		if _, err := secret(c.TokenFile); err != nil {
			return nil, err
		}
		opts = append(opts, nats.TokenHandler(func() string { return c.latest(c.TokenFile) }))
	}
	return opts, nil
}

func (c *Config) tls() (opts []nats.Option) {
	if c.CAFile != "" {
		opts = append(opts, nats.RootCAs(c.CAFile))
	}
	if c.CertFile != "" {
		opts = append(opts, nats.ClientCert(c.CertFile, c.KeyFile))
	}
	return opts
}

// latest reads a secret for a connect that has no way to fail but by being refused.
func (c *Config) latest(path string) string {
	s, err := secret(path)
	if err != nil {
		c.Log.Error("the secret for the store's NATS servers cannot be read; they will refuse", "error", err)
	}
	return s
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
