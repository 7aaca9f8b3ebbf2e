package daemon

import (
	"context"
	"iter"
	"sync/atomic"

	"github.com/lockstep-tls/lockstep/cmd/internal/admin"
	"github.com/lockstep-tls/lockstep/cmd/internal/listeners"
	"github.com/lockstep-tls/lockstep/cmd/internal/loss"
	"github.com/lockstep-tls/lockstep/cmd/internal/metrics"
	"github.com/lockstep-tls/lockstep/events"
	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/keysource/eager"
	"github.com/lockstep-tls/lockstep/lds"
	"github.com/lockstep-tls/lockstep/sds"
	"github.com/lockstep-tls/lockstep/xds"
)

// heard wakes those whom an event concerns. They look for themselves what has happened.
func (d *Daemon) heard(e events.Event) {
	switch e.Kind {
	case events.Rotation:
		d.rolls.Poke(e.Scope)
	case events.Cert:
		d.certs.Wake()
		if d.trials != nil {
			d.trials.Wake() // the certificate may have been released
		}
	case events.Host:
		d.listeners.Wake()
	case events.Cured, events.Refused:
		if e.By != d.data.Replica {
			d.healer.Heard(e.Name, e.Kind == events.Cured)
		}
	}
}

// openListeners reads the template, and has the policy and the configured scope decide about its
// chains.
func (d *Daemon) openListeners() (err error) {
	c := d.cfg.Listeners
	scope := d.cfg.Scopes[c.Scope]
	d.listeners, err = listeners.Open(listeners.Config{
		Template: c.Template, Scope: c.Scope, TicketLifetime: scope.TicketLifetime, NodeLease: scope.NodeLease,
		ClientCerts: scope.ClientCerts, Policy: d.granted(), Refresh: d.cfg.Refresh, Log: d.log,
		Eager: eager.Config{
			Store: d.store, Sources: d.sources, Names: d.certNames, Hosts: c.Names(), Match: c.Match, Max: c.MaxEager,
			Before: d.recordHost,
		},
	})
	return err
}

// types are what nodes are served.
func (d *Daemon) types() map[string]xds.Resources {
	types := map[string]xds.Resources{sds.TypeURL: d.table}
	if d.listeners != nil {
		types[lds.TypeURL] = d.listeners.Table
	}
	return types
}

// changed says that certificates came, changed or went.
func (d *Daemon) changed(names []keysource.Name) {
	d.table.Refresh(names)
	d.listeners.Look(names)
}

// certNames yields the name of every certificate, once all sources were read.
func (d *Daemon) certNames(ctx context.Context) iter.Seq2[keysource.Name, error] {
	return func(yield func(keysource.Name, error) bool) {
		waits := []<-chan struct{}{d.certs.Ready()}
		if d.dir != nil {
			waits = append(waits, d.dir.Ready())
		}
		for _, ready := range waits {
			select {
			case <-ready:
			case <-ctx.Done():
				yield("", ctx.Err())
				return
			}
		}
		there := map[keysource.Name]bool{}
		if d.dir != nil {
			for _, e := range d.dir.List() {
				if there[e.Name] = true; e.Name != "" && !yield(e.Name, nil) {
					return
				}
			}
		}
		for n, err := range d.certs.Names(ctx) {
			if err != nil {
				yield("", err)
				return
			}
			if !there[n] && !yield(n, nil) {
				return
			}
		}
	}
}

// writeBack puts what this process serves into a store that has lost it.
func (d *Daemon) writeBack(ctx context.Context) error {
	return loss.Refill{
		Held: func() (ours []sds.Held) {
			for _, h := range d.table.Held() {
				if d.sources[h.From] == keysource.Source(d.certs) {
					ours = append(ours, h)
				}
			}
			return ours
		},
		Catalog: d.certs, Log: d.log,
		Also: []func(context.Context) error{d.listeners.WriteBack, func(context.Context) error {
			for _, scope := range d.rolls.Scopes() {
				d.rolls.Poke(scope)
			}
			return nil
		}},
	}.Run(ctx)
}

// doubt says why a certificate that is missing may be lost. It is nil if the store is nobody
// else's.
func (d *Daemon) doubt() func(context.Context, keysource.Name) error {
	if d.lossy == nil {
		return nil
	}
	return loss.Doubt(d.lossy)
}

// ledger is what is known of the secrets on the streams.
func (d *Daemon) ledger() admin.Ledger {
	return admin.Ledger{Streams: d.xds, Table: d.table, Rollouts: d.rolls, Prover: d.prover}
}

func (d *Daemon) metrics() metrics.Config {
	return metrics.Config{
		Ledger: d.ledger(), Catalog: d.certs, Dir: d.dir, Custody: d.custody, Bus: d.bus,
		Policy: d.policy, Denials: d.denials, Audit: d.audit,
		Happened:   func() []uint64 { return loadAll(d.seen.kinds[:]) },
		LeftBehind: d.seen.behind,
	}
}

func loadAll(counts []atomic.Uint64) (out []uint64) {
	for i := range counts {
		out = append(out, counts[i].Load())
	}
	return out
}
