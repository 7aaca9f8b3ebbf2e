// Package plane is `lockstepd --check`: it reads what a start of lockstepd would read, and says
// everything for which the start would be refused, or not be well.
//
// It calls what package daemon calls, with the same settings. Where that would make, lock, connect
// or listen, it calls a function beside it that only looks. It does not import package daemon: a
// check must not be able to start anything.
package plane

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/lockstep-tls/lockstep/audit"
	"github.com/lockstep-tls/lockstep/cmd/internal/check"
	"github.com/lockstep-tls/lockstep/cmd/internal/config"
	"github.com/lockstep-tls/lockstep/cmd/internal/datadir"
	"github.com/lockstep-tls/lockstep/cmd/internal/listeners"
	"github.com/lockstep-tls/lockstep/cmd/internal/natsd"
	"github.com/lockstep-tls/lockstep/cmd/internal/settings"
	"github.com/lockstep-tls/lockstep/identity/enforce"
	"github.com/lockstep-tls/lockstep/identity/transport"
	"github.com/lockstep-tls/lockstep/keysource/dir"
	"github.com/lockstep-tls/lockstep/keysource/eager"
	"github.com/lockstep-tls/lockstep/lds"
)

// Run checks a lockstepd that would be started with the configuration file, the flags and the
// environment, and prints what it finds. The error is a [check.Error] if there is a problem.
func Run(ctx context.Context, out io.Writer, file string, f *pflag.FlagSet, getenv func(string) string) error {
	k := checker{from: config.Source(file, f, getenv), log: slog.New(slog.DiscardHandler)}
	k.place = k.from.Places()
	k.check(ctx)
	return k.Write(out)
}

// checker checks one configuration.
type checker struct {
	check.Report
	from  settings.Source
	place func(key string) string
	cfg   config.Config
	log   *slog.Logger
}

func (k *checker) check(ctx context.Context) {
	k.cfg = config.Default()
	f := pflag.NewFlagSet("", pflag.ContinueOnError)
	k.cfg.Flags(f)
	err := k.from.Read(&k.cfg, f)
	if err != nil {
		k.Refused("", err)
	}
	if !settings.Filled(err) {
		k.Left("the files that the configuration names: correct it first")
		return
	}
	if err == nil {
		k.Checked("the configuration %s", cmp.Or(k.from.File, "of flags and environment"))
	}
	if err := k.cfg.Forgotten(); err != nil {
		k.Refused(k.place("data_dir"), err)
	}
	k.data(ctx)
	k.events()
	k.certificates()
	k.policy()
	k.addresses()
	k.listener()
	k.directory(ctx)
}

// refused adds errors whose texts begin with the key of a setting.
func (k *checker) refused(errs ...error) {
	for _, err := range errs {
		k.Refused(k.place(settings.Fault("", err).Key), err)
	}
}

// data looks at the data directory, the store, the sealing key, and the files of the replica.
func (k *checker) data(ctx context.Context) {
	c := k.cfg
	datadir.Look(ctx, datadir.Config{Path: c.DataDir, Store: c.Store, KEK: c.KEK, KEKNew: c.KEKNew}, &k.Report, k.place)
	if c.AuditFile != "" {
		if err := audit.LookAtFile(c.AuditFile); err != nil {
			k.Unwell(k.place("audit_file"), fmt.Errorf("audit_file: the audit log cannot be written there: %w", err))
		} else {
			k.Checked("the file of the audit log, %s", c.AuditFile)
		}
	}
	k.syslog()
	if st, err := os.Stat(c.DataDir); err != nil || !st.IsDir() {
		return // there are no files yet
	}
	file := func(name string) string { return filepath.Join(c.DataDir, name) }
	if _, err := check.Dir(file("events")); err != nil {
		k.Refused(k.place("data_dir"), fmt.Errorf("the record of events: %w", err))
	}
	if _, err := datadir.OpenMarks(file("generations.json"), k.log); err != nil {
		k.Refused(k.place("data_dir"), err)
	}
	lines, err := audit.New(audit.Config{Replica: "check", MarkFile: file("audit.mark"), Log: k.log})
	if err == nil {
		err = lines.Close()
	}
	if err != nil {
		k.Refused(k.place("data_dir"), err)
	}
}

// syslog looks at the syslog of the audit log. That a setting is none is said of the configuration.
func (k *checker) syslog() {
	where := k.cfg.AuditSyslog
	if where == "" || audit.CheckSyslog(where) != nil {
		return
	}
	switch known, err := audit.LookAtSyslog(where); {
	case err != nil:
		err = fmt.Errorf("audit_syslog: the audit log cannot be written there: %w", err)
		k.Unwell(k.place("audit_syslog"), err)
	case !known:
		k.Left("whether syslog answers at %s", where)
	default:
		k.Checked("the syslog of the audit log, %s", where)
	}
}

// events looks at what carries events.
func (k *checker) events() {
	c := k.cfg
	switch {
	case c.Events != "embedded":
		for _, at := range strings.Split(c.Events, ",") {
			if _, err := url.Parse(strings.TrimSpace(at)); err != nil {
				k.Refused(k.place("events"), fmt.Errorf("events: %w", natsd.ErrURL))
			}
		}
		k.Left("whether the NATS server of events answers")
	case c.NATSListen != "":
		const token = "a token of the right length"
		if _, err := natsd.New(natsd.Config{Listen: c.NATSListen, Token: token, Log: k.log}); err != nil {
			k.Refused(k.place("nats_listen"), fmt.Errorf("events: %w", err))
		}
	}
}

// certificates looks at lockstepd's own certificate, and at the CAs of those who may connect.
func (k *checker) certificates() {
	c := k.cfg
	if c.SPIFFESocket == "" && (c.XDSCert == "" || c.XDSKey == "" || c.XDSClientCA == "") {
		return
	}
	t := transport.Config{
		Cert: c.XDSCert, Key: c.XDSKey, ClientCA: c.XDSClientCA, AdminCA: c.AdminClientCA, SPIFFESocket: c.SPIFFESocket,
		Federated: c.Policy != "", Log: k.log,
	}
	if c.SPIFFESocket == "" {
		if faults := transport.Faults(t); len(faults) > 0 {
			k.refused(faults...)
			return
		}
	}
	m, err := transport.Open(t)
	if err != nil {
		k.refused(err)
		return
	}
	defer m.Close()
	key := "xds_cert"
	if c.SPIFFESocket != "" {
		key = "spiffe_socket"
	}
	k.Unwell(k.place(key), m.Problems(time.Now())...)
	for _, own := range m.Certificates() {
		k.Checked("%s %s (%s), until %s", own.What, own.Name, own.File, own.NotAfter.UTC().Format(time.RFC3339))
	}
}

// policy looks at who may have what.
func (k *checker) policy() {
	c := k.cfg
	if c.OpenToAll() {
		k.Note("xds_open: whoever can connect to %s gets every private key and every ticket key", c.XDSListen)
	}
	if c.Policy == "" {
		return
	}
	if faults := enforce.Faults(c.Policy); len(faults) > 0 {
		k.Refused(k.place("policy"), faults...)
		return
	}
	e, err := enforce.New(enforce.Config{
		File: c.Policy, Scopes: slices.Sorted(maps.Keys(c.Scopes)), Refresh: c.Refresh,
		Log: slog.New(noteWarnings{slog.DiscardHandler, &k.Report}),
	})
	if err != nil {
		k.refused(err)
		return
	}
	k.Checked("the policy %s: %d rules", c.Policy, e.Policy().Rules())
}

// addresses looks at where lockstepd would listen.
func (k *checker) addresses() {
	c := k.cfg
	xds := transport.Socket{Mode: c.SocketMode(), Group: c.XDSSocketGroup, OwnDir: c.OwnSocketDir()}
	for _, a := range []struct {
		key, addr string
		socket    transport.Socket
	}{
		{"xds_listen", c.XDSListen, xds}, {"admin_listen", c.AdminListen, transport.Socket{}},
		{"metrics_listen", c.MetricsListen, transport.Socket{}},
	} {
		if _, _, err := net.SplitHostPort(a.addr); a.addr == "" || err != nil && !transport.IsSocket(a.addr) {
			continue // the configuration says that it is none
		}
		if path, socket := strings.CutPrefix(a.addr, "unix:"); socket && sameDir(filepath.Dir(path), c.DataDir) {
			continue // that is made before it
		}
		if err := a.socket.Look(a.addr); err != nil {
			k.Refused(k.place(a.key), fmt.Errorf("%s: %w", a.key, err))
		}
	}
	k.Left("whether the addresses are free")
}

// sameDir reports whether two paths are those of one directory, which need not exist.
func sameDir(a, b string) bool {
	a, errA := filepath.Abs(a)
	b, errB := filepath.Abs(b)
	return errA == nil && errB == nil && a == b
}

// listener looks at the listener that Envoys are served.
func (k *checker) listener() {
	l := k.cfg.Listeners
	scope := k.cfg.Scopes[l.Scope]
	if l.Template == "" {
		return
	}
	text, err := os.ReadFile(l.Template)
	if err == nil {
		faults := lds.Faults(text, lds.Options{
			Scope: l.Scope, TicketLifetime: scope.TicketLifetime, ClientCerts: scope.ClientCerts,
		})
		for _, err := range faults {
			k.Refused(k.place("listeners.template"), fmt.Errorf("listeners: %s: %w", l.Template, err))
		}
	}
	_, err = listeners.Open(listeners.Config{
		Template: l.Template, Scope: l.Scope, TicketLifetime: scope.TicketLifetime, NodeLease: scope.NodeLease,
		ClientCerts: scope.ClientCerts, Refresh: k.cfg.Refresh, Log: k.log,
		Eager: eager.Config{Hosts: l.Names(), Match: l.Match, Max: l.MaxEager},
	})
	if err != nil {
		k.Refused(k.place("listeners.template"), err)
		return
	}
	k.Checked("the template of the listener, %s", l.Template)
}

// directory looks at every certificate of the directory. A start goes on without one that is
// broken.
func (k *checker) directory(ctx context.Context) {
	if k.cfg.Certs == "" {
		return
	}
	all, err := dir.Look(ctx, k.cfg.Certs)
	if err != nil {
		k.Refused(k.place("certs"), err)
		return
	}
	good := 0
	for _, e := range all {
		switch {
		case e.Problem == "":
			good++
		case strings.Contains(e.Problem, e.Folder):
			k.Unwell(k.place("certs"), errors.New(e.Problem))
		default:
			k.Unwell(k.place("certs"), fmt.Errorf("%s: %s", e.Folder, e.Problem))
		}
	}
	k.Checked("%d certificates of %s", good, k.cfg.Certs)
}

// noteWarnings is a log whose warnings become notes.
type noteWarnings struct {
	slog.Handler
	report *check.Report
}

// Enabled implements [slog.Handler].
func (n noteWarnings) Enabled(_ context.Context, l slog.Level) bool { return l >= slog.LevelWarn }

// Handle implements [slog.Handler].
func (n noteWarnings) Handle(_ context.Context, r slog.Record) error {
	words := r.Message
	r.Attrs(func(a slog.Attr) bool {
		words += fmt.Sprintf(", %s %v", a.Key, a.Value)
		return true
	})
	n.report.Note("%s", words)
	return nil
}
