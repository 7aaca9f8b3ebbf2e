// Package live has lockstepd read its configuration again, and puts in force what can change while
// it runs.
package live

import (
	"log/slog"
	"reflect"

	"github.com/lockstep-tls/lockstep/cmd/internal/api"
	"github.com/lockstep-tls/lockstep/cmd/internal/config"
	"github.com/lockstep-tls/lockstep/cmd/internal/listeners"
	"github.com/lockstep-tls/lockstep/cmd/internal/logs"
	"github.com/lockstep-tls/lockstep/cmd/internal/problems"
	"github.com/lockstep-tls/lockstep/cmd/internal/reload"
	"github.com/lockstep-tls/lockstep/rotation/fleet"
	"github.com/lockstep-tls/lockstep/xds/server"
)

// Source is where the configuration of a lockstepd comes from.
type Source struct {
	File  string                        // File is the path. Empty stands for none.
	Load  func() (config.Config, error) // Load reads the file, and all that wins over it.
	Level *slog.LevelVar                // Level is that of the log.
}

// Parts are those of lockstepd that a change concerns.
type Parts struct {
	Scopes    *fleet.Coordinator
	Streams   *server.Server
	Listeners *listeners.Listeners // Listeners is nil if none is served.
	Changed   func(config.Config)  // Changed is told what is in force after a change.
}

// New returns what reads the configuration again of a lockstepd that runs with now.
func New(s Source, now config.Config, p Parts, log *slog.Logger) *reload.Reloader[config.Config] {
	return reload.New(reload.Config[config.Config]{
		Program: "lockstepd", File: s.File, Load: s.Load, Settings: config.Config.Texts, Live: config.Config.Live,
		Apply: func(now, next config.Config) error { return p.apply(now, next, s.Level) }, Log: log,
	}, now)
}

// apply is what [reload.Config].Apply calls. How long a ticket is good for, nodes are told when the
// coordinator of the scopes says so: a longer time is in the store before.
func (p Parts) apply(now, next config.Config, level *slog.LevelVar) error {
	was, scope := now.Scopes[now.Listeners.Scope], next.Scopes[next.Listeners.Scope]
	commit := func() {}
	if !reflect.DeepEqual(now.Listeners, next.Listeners) || was.NodeLease != scope.NodeLease {
		l := next.Listeners
		var err error
		if commit, err = p.Listeners.Change(listeners.Changed{
			Template: l.Template, NodeLease: scope.NodeLease,
			Hosts: l.Names(), Match: l.Match, MaxEager: l.MaxEager,
		}); err != nil {
			return err
		}
	}
	for name, policy := range next.Scopes {
		if err := p.Scopes.SetPolicy(name, policy); err != nil {
			return err // cannot happen: a new scope is not live
		}
	}
	commit()
	level.Set(logs.Level(next.LogLevel))
	p.Streams.SetHold(next.NodeNames, next.WildcardNames)
	p.Changed(next)
	return nil
}

// Problems are those of the file.
func Problems(r *reload.Reloader[config.Config]) (out []api.Problem) {
	for _, p := range r.Problems() {
		out = append(out, problems.New(p.Code, "", p.Text))
	}
	return out
}
