package edge

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/lockstep-tls/lockstep/cmd/internal/check"
	"github.com/lockstep-tls/lockstep/cmd/internal/kek"
	"github.com/lockstep-tls/lockstep/cmd/internal/settings"
	"github.com/lockstep-tls/lockstep/edgeproxy"
	"github.com/lockstep-tls/lockstep/edgeproxy/lastgood"
	"github.com/lockstep-tls/lockstep/internal/expiry"
	"github.com/lockstep-tls/lockstep/seal"
)

// Check reads what a start with the configuration file, the flags and the environment would read,
// and prints everything for which the start would be refused, or not be well. It changes nothing.
// The error is a [check.Error] if there is a problem.
func Check(out io.Writer, file string, f *pflag.FlagSet, getenv func(string) string) error {
	from := settings.From(file, prefix, f, getenv)
	k := checker{place: from.Places()}
	k.check(from)
	return k.Write(out)
}

// checker checks one configuration.
type checker struct {
	check.Report
	place func(key string) string
	cfg   Config
}

func (k *checker) check(from settings.Source) {
	k.cfg = Default()
	if err := needsFile(from.File); err != nil {
		k.Refused("", err)
		return
	}
	f := pflag.NewFlagSet("", pflag.ContinueOnError)
	k.cfg.Flags(f)
	err := from.Read(&k.cfg, f)
	if err != nil {
		k.Refused("", err)
	}
	if !settings.Filled(err) {
		k.Left("the files that the configuration names: correct it first")
		return
	}
	if err == nil {
		k.Checked("the configuration %s", from.File)
	}
	k.files(err == nil)
	k.addresses()
	k.copy()
	k.Left("whether the control plane %s answers", k.cfg.XDS)
}

// files looks at certificates and CAs. sound says that nothing is wrong with the configuration.
func (k *checker) files(sound bool) {
	c := k.cfg
	var faults []error
	if c.XDSCert != "" && c.XDSKey != "" && c.XDSCA != "" {
		faults = c.connFaults()
	}
	p, err := c.proxy()
	if err == nil {
		faults = append(faults, p.FileFaults()...)
	}
	for _, err := range faults {
		key := strings.TrimPrefix(err.Error(), edgeproxy.ErrBadConfig.Error()+": ")
		k.Refused(k.place(settings.Fault("", errors.New(key)).Key), err)
	}
	if !sound || len(faults) > 0 {
		return
	}
	// What is left of a start, without anything that it would open.
	e, err := assemble(c, slog.New(slog.DiscardHandler), slog.New(slog.DiscardHandler))
	if err != nil {
		k.Refused("", err)
		return
	}
	e.conn.Close()
	for _, own := range c.own() {
		if now := time.Now(); own.State(expiry.Proof, now) != expiry.Good {
			key := "xds_cert"
			for _, f := range c.ownFiles() {
				if f.path == own.File {
					key = f.key
				}
			}
			k.Unwell(k.place(key),
				fmt.Errorf("%s (%s, %s): it %s", own.What, own.Name, own.File, own.Words(now)))
			continue
		}
		k.Checked("%s (%s, %s), until %s", own.What, own.Name, own.File, own.NotAfter.UTC().Format(time.RFC3339))
	}
	for _, l := range c.Listeners {
		if l.ClientCA != "" {
			k.Checked("the CA of clients, %s", l.ClientCA)
		}
	}
	for _, r := range c.Routes {
		if r.UpstreamCA != "" {
			k.Checked("the CA of upstreams, %s", r.UpstreamCA)
		}
	}
}

// addresses looks at where the edge would listen.
func (k *checker) addresses() {
	look := func(key, addr string) {
		if _, _, err := net.SplitHostPort(addr); err != nil {
			return // the configuration says that it is none
		}
		if err := check.Address(addr); err != nil {
			k.Refused(k.place(key), fmt.Errorf("%s: %w", key, err))
		}
	}
	for i, l := range k.cfg.Listeners {
		look(fmt.Sprintf("listeners[%d].address", i), l.Address)
	}
	if k.cfg.AdminListen != "" {
		look("admin_listen", k.cfg.AdminListen)
	}
	k.Left("whether the addresses are free")
}

// copy looks at the last-good copy and its key.
func (k *checker) copy() {
	c := k.cfg
	if c.DataDir == "" {
		return
	}
	there, err := check.Dir(c.DataDir)
	switch {
	case err != nil:
		k.Refused(k.place("data_dir"), fmt.Errorf("data_dir: %w", err))
		return
	case there:
		k.Checked("the data directory %s", c.DataDir)
	default:
		k.Note("the data directory %s is made at the start", c.DataDir)
	}
	bad := func(err error) { k.Refused(k.place("kek"), fmt.Errorf("kek: %w", err)) }
	keys, err := c.keys()
	if err != nil {
		bad(err)
		return
	}
	s, err := seal.Load(context.Background(), keys)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if c.KEK != "" { // else it is made with the directory
			if err := kek.LookForNew(c.KEK); err != nil {
				bad(err)
				return
			}
		}
		k.Note("the sealing key is made at the start: %s", keys)
		return
	case err != nil:
		bad(err)
		return
	}
	k.Checked("the sealing key, %s", keys)
	good, err := lastgood.Open(c.DataDir, s)
	if err == nil {
		_, rings := good.Rings()
		_, certs := good.Certificates()
		err = errors.Join(rings, certs)
	}
	if err != nil {
		k.Unwell(k.place("data_dir"), fmt.Errorf("there would be no last-good copy: %w", err))
	}
}

// keys opens the source of the key that seals the copy.
func (c Config) keys() (seal.Keys, error) {
	return kek.Source(cmp.Or(c.KEK, filepath.Join(c.DataDir, "sealing.key")))
}
