package corpus

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"time"
)

// client makes a handshake for a sample at addr. It verifies what it is given as a client of its
// kind does.
type client struct {
	name string
	dial func(ctx context.Context, dir, addr string, s sample) error
}

var clients = []client{
	{"Go, TLS 1.2", goClient(tls.VersionTLS12)},
	{"Go, TLS 1.3", goClient(tls.VersionTLS13)},
	{"openssl, TLS 1.2", opensslClient("-tls1_2")},
	{"openssl, TLS 1.3", opensslClient("-tls1_3")},
}

const handshakeTimeout = 20 * time.Second

func goClient(version uint16) func(context.Context, string, string, sample) error {
	return func(ctx context.Context, _, addr string, s sample) error {
		ctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
		defer cancel()
		pool := x509.NewCertPool()
		pool.AppendCertsFromPEM(s.trust)
		d := tls.Dialer{
			NetDialer: &net.Dialer{},
			Config:    &tls.Config{ServerName: s.host, RootCAs: pool, MinVersion: version, MaxVersion: version},
		}
		c, err := d.DialContext(ctx, "tcp", addr)
		if err != nil {
			return err
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(handshakeTimeout))
		if _, err := io.WriteString(c, "ok"); err != nil {
			return err
		}
		_, err = io.ReadFull(c, make([]byte, 2))
		return err
	}
}

var refusal = regexp.MustCompile(`verify error:num=\d+:(.*)|:error:[0-9A-F]+:(.*)`)

func opensslClient(version string) func(context.Context, string, string, sample) error {
	return func(ctx context.Context, dir, addr string, s sample) error {
		ctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
		defer cancel()
		file := filepath.Join(dir, s.host+version+".pem")
		if err := os.WriteFile(file, s.trust, 0o600); err != nil {
			return err
		}
		defer os.Remove(file)
		// A leaf or an intermediate CA that is trusted as it is needs -partial_chain.
		cmd := exec.CommandContext(ctx, "openssl", "s_client", "-connect", addr,
			"-servername", s.host, "-verify_hostname", s.host,
			"-verify_return_error", "-partial_chain", "-CAfile", file, "-no-CApath", "-no-CAstore", "-brief", version)
		out, err := cmd.CombinedOutput()
		if err == nil && bytes.Contains(out, []byte("CONNECTION ESTABLISHED")) &&
			bytes.Contains(out, []byte("Verification: OK")) {
			return nil
		}
		if said := refusal.FindSubmatch(out); said != nil {
			return errors.New(string(bytes.TrimSpace(append(said[1], said[2]...))))
		}
		return fmt.Errorf("%w: %s", err, out)
	}
}
