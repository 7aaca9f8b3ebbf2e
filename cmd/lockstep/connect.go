package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/lockstep-tls/lockstep/cmd/internal/api"
	"github.com/lockstep-tls/lockstep/cmd/internal/place"
)

// These files are left by lockstepd in its data directory.
const (
	addrFile  = "admin.addr"
	xdsFile   = "xds.addr"
	tokenFile = "admin.token"
)

// client returns a client of the admin API, with the token.
func (a *app) client() (*api.Client, error) {
	base, socket, err := a.address()
	if err != nil {
		return nil, err
	}
	t := http.DefaultTransport.(*http.Transport).Clone()
	if t.TLSClientConfig, err = a.tls(); err != nil {
		return nil, err
	}
	if socket != "" {
		t.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		}
	}
	c := &api.Client{Base: base, Claim: me(), HTTP: &http.Client{Transport: t}}
	c.Token, err = a.token(c.Base)
	if errors.Is(err, errNoToken) && a.tlsCert != "" && a.tokenFile == "" {
		return c, nil // the policy may give the certificate a role
	}
	return c, err
}

// errNoToken says that no token was given or found.
var errNoToken = errors.New("this needs the admin token")

// address returns the base URL of lockstepd, and the socket to dial if its address is unix:PATH.
func (a *app) address() (base, socket string, err error) {
	from, addr := "--server", a.server
	if addr == "" {
		from = filepath.Join(a.dataDir, addrFile)
		b, err := os.ReadFile(from)
		if errors.Is(err, fs.ErrNotExist) && !a.explicitDir && place.Used(place.Before) {
			return "", "", fmt.Errorf("no lockstepd has left its address in %s, and %s here is of an earlier version: "+
				"name it with --data-dir %[2]s", from, place.Before)
		}
		if errors.Is(err, fs.ErrNotExist) {
			return "", "", fmt.Errorf(
				"no lockstepd has left its address in %s: start it, or name its directory with --data-dir, or its "+
					"address with --server", from)
		}
		if err != nil {
			return "", "", unreadable(err, "--server")
		}
		addr = strings.TrimSpace(string(b))
	}
	if path, ok := strings.CutPrefix(addr, "unix:"); ok && path != "" {
		return "http://localhost", path, nil
	}
	u, err := url.Parse(addr)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return "", "", usage("%s: %q is not an address such as http://127.0.0.1:18080", from, addr)
	}
	return u.String(), "", nil
}

// token reads the token. The token in the data directory belongs to the lockstepd of that
// directory. It is not sent to another server unless both were named.
func (a *app) token(base string) (string, error) {
	if u, err := url.Parse(base); err != nil || u.Scheme == "http" && !loopback(u.Hostname()) {
		return "", usage("%s is neither https nor on this machine: the token would be sent in the clear", base)
	}
	if a.tokenFile == "" && a.server != "" && !a.explicitDir {
		return "", usage("%w: give --token-file (an administrator makes one with lockstep token new; lockstepd keeps "+
			"its own as %s in its data directory)", errNoToken, tokenFile)
	}
	file := cmp.Or(a.tokenFile, filepath.Join(a.dataDir, tokenFile))
	b, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("%w, and %s is missing: lockstepd makes it when it starts; --token-file names another",
			errNoToken, file)
	}
	if err != nil {
		return "", unreadable(err, "--token-file")
	}
	token := strings.TrimSpace(string(b))
	bad := token == "" || strings.ContainsAny(token, "\r\n")
	if bad && a.tokenFile != "" {
		return "", fmt.Errorf("--token-file: %s holds no token of this fleet: it should be one line, "+
			"as lockstep token new prints it", file)
	}
	if bad {
		return "", fmt.Errorf(
			"%s holds no token: it should be one line; restart lockstepd after removing it to have a new one made",
			file)
	}
	return token, nil
}

// unreadable adds the next step to the error of reading a file of lockstepd.
func unreadable(err error, flag string) error {
	if errors.Is(err, fs.ErrPermission) {
		return exit{exitRefused, fmt.Errorf("%w: run this as the user that lockstepd runs as, or give %s "+
			"(with --server and --token-file another user may: lockstep token new makes a token)", err, flag)}
	}
	return fmt.Errorf("%w (%s names another)", err, flag)
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

func (a *app) tls() (*tls.Config, error) {
	c := &tls.Config{}
	if a.tlsCA != "" {
		pool, err := readPool(a.tlsCA)
		if err != nil {
			return nil, fmt.Errorf("--tls-ca: %w", err)
		}
		c.RootCAs = pool
	}
	if a.tlsCert != "" {
		pair, err := tls.LoadX509KeyPair(a.tlsCert, a.tlsKey)
		if err != nil {
			return nil, fmt.Errorf("--tls-cert %s, --tls-key %s: %w", a.tlsCert, a.tlsKey, err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c, nil
}

func readPool(file string) (*x509.CertPool, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(b) {
		return nil, fmt.Errorf("%s holds no certificate (PEM)", file)
	}
	return pool, nil
}
