// Package listeners has Envoys served their listener: it wires the table of it (package lds) to
// what makes a host eager, and keeps which node serves which version.
package listeners

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"time"

	"github.com/lockstep-tls/lockstep/cmd/internal/admin"
	"github.com/lockstep-tls/lockstep/cmd/internal/api"
	"github.com/lockstep-tls/lockstep/cmd/internal/problems"
	"github.com/lockstep-tls/lockstep/events"
	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/keysource/eager"
	"github.com/lockstep-tls/lockstep/lds"
	"github.com/lockstep-tls/lockstep/xds"
)

// Config of [Open].
type Config struct {
	Template string // file with the listener; empty: none is served
	Scope    string // whose ticket keys the chains use
	// TicketLifetime is that of the scope, until SetTicketLifetime is called. If it is 0, nothing
	// is served before that.
	TicketLifetime time.Duration
	NodeLease      time.Duration // of that scope: so long a node that is away is remembered
	ClientCerts    string        // of that scope
	Policy         lds.Policy    // nil: everybody may have everything
	Eager          eager.Config  // but for Changed and Refresh
	// Doubt is that of [eager.SecondsConfig].
	Doubt   func(context.Context, keysource.Name) error
	Refresh time.Duration
	// Mark is a file that remembers the template over a restart. It is empty if nothing does.
	Mark string
	// Record passes an event on. It does not block.
	Record func(events.Event)
	Log    *slog.Logger

	newest chan string // newest has the digest that is to be remembered, and capacity 1.
}

// Listeners serve Envoys their listener. All methods may be called of a nil one, which serves
// none, and by any goroutine.
type Listeners struct {
	Table *lds.Table
	Eager *eager.Eager

	seconds     *eager.Seconds
	scope       string
	clientCerts string
	remember    func(context.Context) error

	lifetimes sync.Mutex // lifetimes keeps the calls of SetTicketLifetime apart.

	mu    sync.Mutex
	lease time.Duration
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

// Open reads the template. It returns nil if none is configured.
func Open(c Config) (*Listeners, error) {
	if c.Template == "" {
		return nil, nil
	}
	c.newest = make(chan string, 1)
	table, err := lds.NewTable(lds.Config{
		File: c.Template, Refresh: c.Refresh, Policy: c.Policy, Log: c.Log, Changed: c.changed,
		Options: lds.Options{Scope: c.Scope, TicketLifetime: c.TicketLifetime, ClientCerts: c.ClientCerts},
	})
	if err != nil {
		return nil, fmt.Errorf("listeners: %w", err)
	}
	seconds := eager.NewSeconds(eager.SecondsConfig{
		Sources: c.Eager.Sources, Refresh: c.Refresh, Changed: table.SetHosts, Doubt: c.Doubt, Log: c.Log,
	})
	c.Eager.Changed, c.Eager.Refresh, c.Eager.Log = seconds.SetHosts, c.Refresh, c.Log
	hosts, err := eager.New(c.Eager)
	if err != nil {
		return nil, fmt.Errorf("listeners: match: %w", err)
	}
	if before := c.remembered(); before != table.Digest() {
		c.changed(c.Template, before, table.Digest())
	}
	return &Listeners{
		Table: table, Eager: hosts, seconds: seconds, scope: c.Scope, clientCerts: c.ClientCerts, lease: c.NodeLease,
		remember: c.remember,
		nodes:    map[uint64]admin.Listening{}, away: map[string]away{},
	}, nil
}

// Changed is what of a [Config] can change while Envoys are served.
type Changed struct {
	Template  string
	NodeLease time.Duration
	Hosts     []keysource.Name
	Match     []string
	MaxEager  int
}

// Change makes other settings ready. commit puts them in the place of the present ones, and cannot
// fail. After an error nothing has changed.
func (l *Listeners) Change(c Changed) (commit func(), err error) {
	if l == nil {
		return func() {}, nil
	}
	template, err := l.Table.Change(c.Template, lds.Options{Scope: l.scope, ClientCerts: l.clientCerts})
	if err != nil {
		return nil, fmt.Errorf("listeners: %w", err)
	}
	if err := eager.Check(c.Match); err != nil {
		return nil, fmt.Errorf("listeners: match: %w", err)
	}
	return func() {
		l.mu.Lock()
		l.lease = c.NodeLease
		l.mu.Unlock()
		template()
		_ = l.Eager.Choose(c.Hosts, c.Match, c.MaxEager) // Check has found no fault
	}, nil
}

// SetTicketLifetime has nodes told how long the tickets are good for that they issue. now returns
// it. Of two calls at once, the later value counts.
func (l *Listeners) SetTicketLifetime(now func() time.Duration) {
	if l == nil {
		return
	}
	l.lifetimes.Lock()
	defer l.lifetimes.Unlock()
	l.Table.SetTicketLifetime(now())
}

// Run hands what must run to run.
func (l *Listeners) Run(run func(func(context.Context) error)) {
	if l != nil {
		run(l.Eager.Run)
		run(l.seconds.Run)
		run(l.Table.Run)
		run(l.remember)
	}
}

// Observe notes what a node serves.
func (l *Listeners) Observe(e xds.Event) {
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	at := l.nodes[e.Node.Stream]
	at.Node = e.Node.ID
	switch e.Kind {
	case xds.Asked: // the event says what the node holds
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
func (l *Listeners) leave(at admin.Listening, now time.Time) {
	maps.DeleteFunc(l.away, func(_ string, a away) bool { return now.Sub(a.since) >= l.lease })
	if len(l.away) < maxAway {
		at.Away, at.Refused = true, ""
		l.away[at.Node] = away{at, now}
	}
}

// serving lists the nodes that asked for the listener here, and are connected or were so less
// than a lease ago.
func (l *Listeners) serving() (out []admin.Listening) {
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

// Admin is what the admin API shows and changes. It is nil if no listener is served.
func (l *Listeners) Admin() *admin.Listeners {
	if l == nil {
		return nil
	}
	return &admin.Listeners{Eager: l.Eager, Table: l.Table, Here: l.serving}
}

// Problems says what is wrong with the listener.
func (l *Listeners) Problems() (out []api.Problem) {
	if l == nil {
		return nil
	}
	if err := l.Table.Problem(); err != nil {
		out = append(out, problems.New(problems.ListenerTemplate, "",
			fmt.Sprintf("the listener's template cannot be used, the last good one stays in force: %v", err)))
	}
	hosts, more := l.Eager.Hosts()
	if beyond := max(len(hosts)-l.Eager.Max(), 0) + more; beyond > 0 {
		text := fmt.Sprintf("%d hosts that should be eager are beyond "+
			"max_eager (%d) and go on demand, without session resumption", beyond, l.Eager.Max())
		if len(hosts) > 0 { // all that are kept may have left, and others only be counted
			text += fmt.Sprintf(", the first of them %s", hosts[min(l.Eager.Max(), len(hosts)-1)].Name)
		}
		p := problems.New(problems.BeyondMaxEager, "", text)
		p.Count = beyond
		out = append(out, p)
	}
	refusing, words := 0, ""
	for _, at := range l.serving() {
		if at.Refused != "" {
			refusing++
			words = fmt.Sprintf("%s: %s", at.Node, at.Refused)
		}
	}
	if refusing > 0 {
		p := problems.New(problems.ListenerRefused, "", fmt.Sprintf("%d nodes refuse the listener and go on with "+
			"the last one that they took; %s", refusing, words))
		p.Count = refusing
		out = append(out, p)
	}
	return out
}

// Of returns where a version of the listener listens, and which hosts have a chain in it.
func (l *Listeners) Of(version string) (port uint16, hosts []keysource.Name) {
	if l == nil {
		return 0, nil
	}
	hosts, _ = l.Table.HostsOf(version)
	return l.Table.Port(), hosts
}

// SetPolicy puts another policy in the place of Config.Policy.
func (l *Listeners) SetPolicy(p lds.Policy) {
	if l != nil {
		l.Table.SetPolicy(p)
	}
}

// Look says that certificates of these names came, changed or went.
func (l *Listeners) Look(names []keysource.Name) {
	if l != nil {
		l.Eager.Look(names)
		l.seconds.Look(names)
	}
}

// Wake has the pins read again.
func (l *Listeners) Wake() {
	if l != nil {
		l.Eager.Wake()
	}
}

// WriteBack puts the pins back into a store that has lost them.
func (l *Listeners) WriteBack(ctx context.Context) error {
	if l == nil {
		return nil
	}
	return l.Eager.WriteBack(ctx)
}
