package daemon

import (
	"time"

	"github.com/lockstep-tls/lockstep/cmd/internal/listeners"
	"github.com/lockstep-tls/lockstep/keysource/eager"
	"github.com/lockstep-tls/lockstep/lds"
	"github.com/lockstep-tls/lockstep/sds"
	"github.com/lockstep-tls/lockstep/xds"
)

// openListeners reads the template, and has the policy and the configured scope decide about its
// chains. Nothing is served before the coordinator says how long tickets are good for. The store
// may not know of the configured ticket_lifetime yet.
func (d *Daemon) openListeners() (err error) {
	c := d.cfg.Listeners
	scope := d.cfg.Scopes[c.Scope]
	d.listeners, err = listeners.Open(listeners.Config{
		Template: c.Template, Scope: c.Scope, NodeLease: scope.NodeLease,
		ClientCerts: scope.ClientCerts, Policy: d.granted(), Refresh: d.cfg.Refresh, Log: d.log,
		Mark: d.data.File("listener.mark"), Record: d.rec.Publish, Doubt: d.doubt(),
		Eager: eager.Config{
			Store: d.store, Sources: d.sources, Names: d.certNames, Hosts: c.Names(), Match: c.Match, Max: c.MaxEager,
			Before: d.recordHost,
		},
	})
	return err
}

// setTicketLifetime has the chains of a scope say how long a ticket is good for.
func (d *Daemon) setTicketLifetime(scope string) {
	if scope == d.cfg.Listeners.Scope {
		d.listeners.SetTicketLifetime(func() time.Duration { return d.rolls.TicketLifetime(scope) })
	}
}

// types are what nodes are served.
func (d *Daemon) types() map[string]xds.Resources {
	types := map[string]xds.Resources{sds.TypeURL: d.table}
	if d.listeners != nil {
		types[lds.TypeURL] = d.listeners.Table
	}
	return types
}
