package plane

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"github.com/lockstep-tls/lockstep/cmd/internal/config"
	"github.com/lockstep-tls/lockstep/cmd/internal/datadir"
	"github.com/lockstep-tls/lockstep/keysource/dir"
)

// Again returns what a reload checks, of a lockstepd that was started with the configuration file,
// the flags and the environment. It says in the words of [Run] why a start with next would be
// refused. It looks at what the settings name that differ from now. A file that was good at the
// start and is not any more has a line of its own in `lockstep status`.
func Again(file string, f *pflag.FlagSet, getenv func(string) string) func(now, next config.Config) error {
	from := config.Source(file, f, getenv)
	return func(now, next config.Config) error {
		k := checker{from: from, cfg: next, log: slog.New(slog.DiscardHandler)}
		k.place = k.from.Places()
		k.again(context.Background(), now)
		if faults := k.Refusals(); len(faults) > 0 {
			return errors.New(strings.Join(faults, "\n"))
		}
		return nil
	}
}

func (k *checker) again(ctx context.Context, now config.Config) {
	was, is := now.Texts(), k.cfg.Texts()
	changed := func(keys ...string) bool {
		return slices.ContainsFunc(keys, func(key string) bool { return was[key] != is[key] })
	}
	if err := k.cfg.Forgotten(); err != nil && changed("data_dir") {
		k.Refused(k.place("data_dir"), err)
	}
	if changed("data_dir", "store", "kek", "kek_new") {
		k.dataAgain(ctx)
	}
	if changed("events", "nats_listen") {
		k.events()
	}
	if changed("xds_cert", "xds_key", "xds_client_ca", "admin_client_ca", "spiffe_socket") {
		k.certificates()
	}
	if changed("policy") {
		k.policy()
	}
	if changed("xds_listen", "xds_socket_mode", "xds_socket_group", "admin_listen", "metrics_listen", "data_dir") {
		k.addresses()
	}
	if changed("listeners.template", "listeners.scope") {
		k.listener()
	}
	if changed("certs") && k.cfg.Certs != "" {
		if err := dir.Readable(k.cfg.Certs); err != nil {
			k.Refused(k.place("certs"), err)
		}
	}
}

// dataAgain looks at the data directory, the store and the sealing key. A variable or a credential
// is not looked at: a process has those of its own start only.
func (k *checker) dataAgain(ctx context.Context) {
	c := datadir.Config{Path: k.cfg.DataDir, Store: k.cfg.Store, KEK: k.cfg.KEK, KEKNew: k.cfg.KEKNew}
	if strings.HasPrefix(c.KEK, "env:") || strings.HasPrefix(c.KEK, "credential:") {
		datadir.LookAtPlace(c, &k.Report, k.place)
		return
	}
	datadir.Look(ctx, c, &k.Report, k.place)
}
