package main

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/lockstep-tls/lockstep/cmd/internal/bootstrap"
	"github.com/lockstep-tls/lockstep/cmd/internal/config"
	"github.com/lockstep-tls/lockstep/cmd/internal/pki"
)

// sources are files from which options of bootstrap are read.
type sources struct {
	pki, config, clientCA string
	dir                   string // dir is the data directory that config names, or empty.
}

// expiresSoon is how long before its end the certificate of a node is warned about.
const expiresSoon = 30 * 24 * time.Hour

func (a *app) fill(from *sources, o *bootstrap.Options, mtls *bootstrap.TLS) error {
	if from.pki != "" {
		dir, err := certFolder(from.pki, o.Node)
		if err != nil {
			return err
		}
		mtls.CA = filepath.Join(dir, pki.CAFile)
		mtls.Cert, mtls.Key = filepath.Join(dir, pki.CertFile), filepath.Join(dir, pki.KeyFile)
		at, err := pki.Expiry(dir)
		if err != nil {
			return err
		}
		if left := time.Until(at); left < expiresSoon {
			fmt.Fprintf(a.err, "warning: the certificate in %s expires %s: lockstep pki renew\n", dir, until(at))
		}
	}
	if from.clientCA != "" {
		b, err := os.ReadFile(from.clientCA)
		if err != nil {
			return fmt.Errorf("--client-ca: %w", err)
		}
		o.ClientCA = &bootstrap.ClientCA{File: from.clientCA, PEM: b}
	}
	if from.config == "" {
		return nil
	}
	c := config.Default()
	f := pflag.NewFlagSet("", pflag.ContinueOnError)
	c.Flags(f)
	place := func(key string) string { // the settings are those of the file alone
		if strings.HasPrefix(key, "LOCKSTEP_") {
			return ""
		}
		return os.Getenv(key)
	}
	if err := c.Load(from.config, f, place); err != nil {
		return err
	}
	p, ok := c.Scopes[o.Scope]
	if !ok {
		return fail(exitNotFound, "scope %q is not configured in %s; it has %v", o.Scope, from.config,
			slices.Sorted(maps.Keys(c.Scopes)))
	}
	o.ClientCerts, o.TicketLifetime = p.ClientCerts, p.TicketLifetime
	from.dir = c.DataDir
	return nil
}

// certFolder finds the folder with a node's certificate, below the CA's folder or in the one that
// was copied to the node. The path is absolute, since Envoy may run in another directory.
func certFolder(dir, node string) (string, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	below, err := pki.NodeDir(dir, node)
	if err != nil && node != "" {
		return "", err
	}
	for _, folder := range []string{below, dir} {
		if _, err := os.Stat(filepath.Join(folder, pki.CertFile)); folder != "" && !errors.Is(err, fs.ErrNotExist) {
			return folder, err
		}
	}
	return "", fail(exitNotFound, "%s holds no certificate of node %q: lockstep pki issue node --dir %s --node %s", dir,
		node, dir, node)
}
