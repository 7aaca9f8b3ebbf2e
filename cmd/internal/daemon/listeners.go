package daemon

import (
	"context"
	"fmt"
	"iter"
	"maps"
	"sync"
	"time"

	"github.com/lockstep-tls/lockstep/audit"
	"github.com/lockstep-tls/lockstep/cmd/internal/admin"
	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/keysource/eager"
	"github.com/lockstep-tls/lockstep/lds"
	"github.com/lockstep-tls/lockstep/sds"
	"github.com/lockstep-tls/lockstep/store"
	"github.com/lockstep-tls/lockstep/xds"
)

// listeners serve Envoys their listener. Nil: no template is configured.
type listeners struct {
	table *lds.Table
	eager *eager.Eager

	lease time.Duration

	mu    sync.Mutex
	nodes map[uint64]admin.Listening // by stream
	away  map[string]away            // by node: what it goes on serving
}

// away is a node whose stream has ended.
type away struct {
	admin.Listening
	since time.Time
}

// maxAway bounds what is remembered, whatever ids nodes come under.
const maxAway = 10_000

// openListeners reads the template and wires what decides about its chains.
func (d *Daemon) openListeners() error {
	c := d.cfg.Listeners
	if c.Template == "" {
		return nil
	}
	scope := d.cfg.Scopes[c.Scope]
	table, err := lds.NewTable(lds.Config{
		File: c.Template, Refresh: d.cfg.Refresh, Policy: d.policy.guard(), Log: d.log,
		Options: lds.Options{Scope: c.Scope, TicketLifetime: scope.TicketLifetime, ClientCerts: scope.ClientCerts},
	})
	if err != nil {
		return fmt.Errorf("listeners: %w", err)
	}
	hosts, err := eager.New(eager.Config{
		Store: d.data.store, Sources: d.sources, Names: d.certNames, Hosts: c.Names(), Match: c.Match, Max: c.MaxEager, Refresh: d.cfg.Refresh,
		Changed: table.SetHosts, Before: d.recordHost, Log: d.log,
	})
	if err != nil {
		return fmt.Errorf("listeners: match: %w", err)
	}
	d.listeners = &listeners{table: table, eager: hosts, lease: scope.NodeLease, nodes: map[uint64]admin.Listening{}, away: map[string]away{}}
	return nil
}

// types are what nodes are served.
func (d *Daemon) types() map[string]xds.Resources {
	types := map[string]xds.Resources{sds.TypeURL: d.table}
	if d.listeners != nil {
		types[lds.TypeURL] = d.listeners.table
	}
	return types
}

// changed says that certificates came, changed or went.
func (d *Daemon) changed(names []keysource.Name) {
	d.table.Refresh(names)
	if d.listeners != nil {
		d.listeners.eager.Look(names)
	}
}

// certNames yields the name of every certificate, once it can be told.
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
		for key, err := range d.data.store.Keys(ctx, store.Key("cert")+"/") {
			if err != nil {
				yield("", err)
				return
			}
			name, err := store.Segment(key)
			if n := keysource.Name(name); err == nil && !there[n] && !yield(n, nil) {
				return
			}
		}
	}
}

// recordHost is what [eager.Config].Before calls.
func (d *Daemon) recordHost(ctx context.Context, n keysource.Name, pinned bool) error {
	e := audit.Entry{Actor: admin.Actor(ctx), What: "host-pinned", Name: string(n)}
	if !pinned {
		e.What = "host-unpinned"
	}
	_, err := d.audit.Append(ctx, e)
	return err
}

func (l *listeners) run(run func(func(context.Context) error)) {
	if l != nil {
		run(l.eager.Run)
		run(l.table.Run)
	}
}

// observe notes what a node serves. It is called by the goroutines of the streams.
func (l *listeners) observe(e xds.Event) {
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	at := l.nodes[e.Node.Stream]
	at.Node = e.Node.ID
	switch e.Kind {
	case xds.Asked: // it says what it holds
		at.Version = e.Version
		delete(l.away, e.Node.ID)
	case xds.Accepted:
		at.Version, at.Refused = e.Version, ""
	case xds.Refused:
		at.Refused = e.Words
	case xds.Closed, xds.Dropped:
		delete(l.nodes, e.Node.Stream)
		if e.Kind == xds.Closed && at.Version != "" {
			l.leave(at, time.Now())
		}
		return
	}
	l.nodes[e.Node.Stream] = at
}

// leave remembers, for a lease, that a node may go on serving what it has. The caller holds mu.
func (l *listeners) leave(at admin.Listening, now time.Time) {
	maps.DeleteFunc(l.away, func(_ string, a away) bool { return now.Sub(a.since) >= l.lease })
	if len(l.away) < maxAway {
		at.Away, at.Refused = true, ""
		l.away[at.Node] = away{at, now}
	}
}

// serving lists the nodes that are connected here and asked for the listener, and those that were, less than a lease ago.
func (l *listeners) serving() (out []admin.Listening) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, at := range l.nodes {
		out = append(out, at)
	}
	for _, at := range l.away {
		if time.Since(at.since) < l.lease {
			out = append(out, at.Listening)
		}
	}
	return out
}

// admin is what the API shows and changes; nil where there is no listener.
func (l *listeners) admin() *admin.Listeners {
	if l == nil {
		return nil
	}
	return &admin.Listeners{Eager: l.eager, Table: l.table, Here: l.serving}
}

// ills is what ails the listener.
func (l *listeners) ills() (out []string) {
	if l == nil {
		return nil
	}
	if err := l.table.Problem(); err != nil {
		out = append(out, fmt.Sprintf("the listener's template cannot be used, the last good one stays in force: %v", err))
	}
	hosts, more := l.eager.Hosts()
	if beyond := max(len(hosts)-l.eager.Max(), 0) + more; beyond > 0 {
		out = append(out, fmt.Sprintf("%d hosts that should be eager are beyond max_eager (%d) and go on demand, without session resumption, the first of them %s (lockstep host list)",
			beyond, l.eager.Max(), hosts[min(l.eager.Max(), len(hosts)-1)].Name))
	}
	refusing, words := 0, ""
	for _, at := range l.serving() {
		if at.Refused != "" {
			refusing++
			words = fmt.Sprintf("%s: %s", at.Node, at.Refused)
		}
	}
	if refusing > 0 {
		out = append(out, fmt.Sprintf("%d nodes refuse the listener and go on with the last one that they took (lockstep nodes); %s", refusing, words))
	}
	return out
}
