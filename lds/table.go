package lds

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/lockstep-tls/lockstep/internal/watchfile"
	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/xds"
)

// Config is what a [Table] needs.
type Config struct {
	File    string        // the template; it is read again each Refresh
	Refresh time.Duration // default 5 s
	Options Options
	Policy  Policy // nil allows everything to everybody
	// Changed is called with the digests of the template before and now when another one came into
	// force. It must not block. Nil does nothing.
	Changed func(file, before, now string)
	Log     *slog.Logger
}

// Table serves the listener. It implements [xds.Wildcard] and [xds.Referring]. It answers nothing
// until SetHosts was called. So a node that reconnects after a restart does not lose the chains of
// hosts that are not known yet. Nor does it before it is known how long tickets are good for, from
// Options or from SetTicketLifetime. So no node has a lifetime that does not hold yet.
type Table struct {
	cfg      Config
	name     string // of the listener; set once
	editions editions
	changed  chan struct{} // capacity 1; ready when something to serve has changed

	mu        sync.Mutex
	file      *watchfile.Watched[*Template]
	template  *Template
	lifetime  time.Duration // lifetime is that of tickets; see SetTicketLifetime.
	hosts     []keysource.Name
	hostsSet  bool // SetHosts was called
	policy    Policy
	served    *build // nil while nothing is served
	mailboxes map[*xds.Mailbox]struct{}
}

// NewTable reads the template, and starts nothing. If the template cannot be used, the error wraps
// [ErrBadTemplate] and names the file.
func NewTable(c Config) (*Table, error) {
	if c.Refresh <= 0 {
		c.Refresh = 5 * time.Second
	}
	if c.Changed == nil {
		c.Changed = func(string, string, string) {}
	}
	t := &Table{
		cfg: c, policy: c.Policy, lifetime: c.Options.TicketLifetime, changed: make(chan struct{}, 1),
		mailboxes: map[*xds.Mailbox]struct{}{},
	}
	file, err := t.open(c.File, c.Options)
	if err != nil {
		return nil, err
	}
	t.file, t.template = file, file.Now()
	t.name = t.template.name
	t.signal()
	return t, nil
}

// Change makes ready what serves the template of another file, or with other options. commit puts
// it in the place of the present one, and cannot fail. The error is that of [NewTable], or says
// that the listener has another name. After an error nothing has changed. The lifetime of tickets
// stays as it is; see [Table.SetTicketLifetime].
func (t *Table) Change(file string, o Options) (commit func(), err error) {
	next, err := t.open(file, o)
	if err != nil {
		return nil, err
	}
	return func() { t.take(nil, next) }, nil
}

// take has the template of next in force. It reports false, and does nothing, if the file is
// another than was by now. A was of nil stands for any.
func (t *Table) take(was, next *watchfile.Watched[*Template]) bool {
	t.mu.Lock()
	if was != nil && t.file != was {
		t.mu.Unlock()
		return false
	}
	before := t.template.digest
	t.file, t.template = next, next.Now().lasting(t.lifetime)
	now := t.template.digest
	t.signal()
	t.mu.Unlock()
	if now != before {
		t.cfg.Changed(next.Path(), before, now)
	}
	return true
}

// Digest returns that of the template in force.
func (t *Table) Digest() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.template.digest
}

// SetTicketLifetime sets for how long nodes may accept the tickets that they issue from now on. It
// is in whole seconds. It does not read the template again, so it cannot fail.
func (t *Table) SetTicketLifetime(d time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if d == t.lifetime {
		return
	}
	t.lifetime, t.template = d, t.template.lasting(d)
	t.signal()
}

func (t *Table) open(file string, o Options) (*watchfile.Watched[*Template], error) {
	return watchfile.Open(func(files []watchfile.File) (*Template, error) { return t.parse(files, o) }, file)
}

// parse makes a template of the file. After the first one, its name must not change.
func (t *Table) parse(files []watchfile.File, o Options) (*Template, error) {
	f := files[0]
	if f.Err != nil {
		return nil, f.Err
	}
	p, err := Parse(f.Bytes, o)
	if err == nil && t.name != "" && p.name != t.name {
		err = bad("its name was %q and is now %q, which would be another listener: "+
			"restart lockstepd if that is meant", t.name, p.name)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.Path, err)
	}
	sum := sha256.Sum256(f.Bytes)
	p.digest = hex.EncodeToString(sum[:8])
	return p, nil
}

// read takes over the content of the file, if it can be used.
func (t *Table) read() {
	file := t.watched()
	changed, fault := file.Look()
	if fault != nil {
		t.cfg.Log.Error("the listener's template cannot be used; the last good one stays in force", "err", fault)
	}
	if !changed {
		return
	}
	if t.take(file, file) { // else Change was faster
		t.cfg.Log.Info("the listener's template has changed: every chain is replaced", "file", file.Path())
	}
}

// Problem returns why the template in the file is not in force, or nil while it is.
func (t *Table) Problem() error { return t.watched().Err() }

func (t *Table) watched() *watchfile.Watched[*Template] {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.file
}

// Port returns the port on which a node listens that has the listener. It is 0 if the node does
// not listen on a port.
func (t *Table) Port() uint16 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.template.port
}

// SetHosts sets which hosts are eager, each once. A host that has a second certificate is followed
// by its name ([keysource.Name.Second]), and its chain names both. Run serves them after a moment,
// in which more may come. The slice must not be changed afterwards.
func (t *Table) SetHosts(hosts []keysource.Name) {
	hosts = slices.Sorted(slices.Values(hosts))
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.hostsSet && slices.Equal(hosts, t.hosts) {
		return
	}
	t.hosts, t.hostsSet = hosts, true
	t.signal()
}

// SetPolicy replaces Config.Policy.
func (t *Table) SetPolicy(p Policy) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.policy = p
	t.signal()
}

// HostsOf lists the hosts that have a chain in a version of the listener. ok is false if the
// version is not remembered. The list is shared.
//
// The versions of the last two changes are remembered, and older ones while there is room. Of one
// change at most 1024 sets of hosts are remembered. A node whose policy gives it a further set is
// served like any other. But what it serves is not known here. After each change it is sent the
// certificates of all its chains again.
func (t *Table) HostsOf(version string) (hosts []keysource.Name, ok bool) {
	all, ok := t.editions.of(version)
	if !slices.ContainsFunc(all, keysource.Name.IsSecond) {
		return all, ok
	}
	return slices.DeleteFunc(slices.Clone(all), keysource.Name.IsSecond), ok
}

// All implements [xds.Wildcard].
func (t *Table) All() []string { return []string{t.name} }

// Brings implements [xds.Referring]. It lists the certificates that chains of version name, and
// those of before do not. If that is not known, it lists all.
func (t *Table) Brings(before, version string) (names []string) {
	had, _ := t.editions.of(before)
	has, ok := t.editions.of(version)
	if !ok {
		t.mu.Lock()
		if had = nil; t.served != nil {
			has = t.served.hosts
		}
		t.mu.Unlock()
	}
	for _, h := range has {
		if _, found := slices.BinarySearch(had, h); !found {
			names = append(names, keysource.ChainName(h))
		}
	}
	return names
}

// Lookup implements [xds.Resources].
func (t *Table) Lookup(node xds.Node, name string) (*xds.Resource, xds.State) {
	if name != t.name {
		return nil, xds.Absent
	}
	t.mu.Lock()
	now := t.served
	t.mu.Unlock()
	if now == nil {
		return nil, xds.NotYet
	}
	return now.listener(node.Identity), xds.Present
}

// Watch implements [xds.Resources].
func (t *Table) Watch(_ xds.Node, name string, mailbox *xds.Mailbox) {
	if name == t.name {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.mailboxes[mailbox] = struct{}{}
	}
}

// Unwatch implements [xds.Resources].
func (t *Table) Unwatch(_ xds.Node, name string, mailbox *xds.Mailbox) {
	if name == t.name {
		t.mu.Lock()
		defer t.mu.Unlock()
		delete(t.mailboxes, mailbox)
	}
}

// signal wakes Run.
func (t *Table) signal() {
	select {
	case t.changed <- struct{}{}:
	default:
	}
}
