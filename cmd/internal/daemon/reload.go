package daemon

import (
	"log/slog"
	"os"
	"reflect"

	"github.com/lockstep-tls/lockstep/cmd/internal/config"
	"github.com/lockstep-tls/lockstep/cmd/internal/listeners"
	"github.com/lockstep-tls/lockstep/cmd/internal/logs"
	"github.com/lockstep-tls/lockstep/cmd/internal/reload"
)

// Reloading has Run read the configuration again at each signal of hangup. file is its path, or
// empty, and load reads it and all that wins over it. level is that of the log.
func (d *Daemon) Reloading(file string, load func() (config.Config, error), hangup <-chan os.Signal,
	level *slog.LevelVar) {
	d.hangup, d.level = hangup, level
	d.reload = reload.New(reload.Config[config.Config]{
		Program: "lockstepd", File: file, Load: load, Settings: config.Config.Settings, Live: config.Config.Live,
		Apply: d.apply, Log: d.log,
	}, d.cfg)
}

// apply is what [reload.Config].Apply calls. Scopes come before the listener, which tells nodes how
// long a ticket is good for. So the keys are kept for that long before a node knows of it.
func (d *Daemon) apply(now, next config.Config) error {
	was, scope := now.Scopes[now.Listeners.Scope], next.Scopes[next.Listeners.Scope]
	commit := func() {}
	if !reflect.DeepEqual(now.Listeners, next.Listeners) || was.TicketLifetime != scope.TicketLifetime ||
		was.NodeLease != scope.NodeLease {
		l := next.Listeners
		var err error
		if commit, err = d.listeners.Change(listeners.Changed{
			Template: l.Template, TicketLifetime: scope.TicketLifetime, NodeLease: scope.NodeLease,
			Hosts: l.Names(), Match: l.Match, MaxEager: l.MaxEager,
		}); err != nil {
			return err
		}
	}
	for name, p := range next.Scopes {
		if err := d.rolls.SetPolicy(name, p); err != nil {
			return err // cannot happen: a new scope is not live
		}
	}
	commit()
	d.level.Set(logs.Level(next.LogLevel))
	d.xds.SetHold(next.NodeNames, next.WildcardNames)
	return nil
}
