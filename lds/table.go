package lds

import (
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/lockstep-tls/lockstep/internal/watchfile"
	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/xds"
)

// Config of a [Table].
type Config struct {
	File    string        // the template; read again each Refresh
	Refresh time.Duration // default 5 s
	Options Options
	Policy  Policy // nil: everybody may have everything
	Log     *slog.Logger
}

// Table serves the listener. It implements [xds.Wildcard] and [xds.Referring]. Until SetHosts was called it answers nothing: a node that comes back after a
// restart must not lose the chains of hosts that are not known yet.
type Table struct {
	cfg      Config
	name     string // of the listener; set once
	file     *watchfile.Watched[*Template]
	editions editions
	kick     chan struct{} // capacity 1: something wanted changed

	mu       sync.Mutex
	template *Template
	hosts    []keysource.Name
	known    bool // SetHosts was called
	policy   Policy
	now      *build // nil: nothing is served yet
	boxes    map[*xds.Mailbox]struct{}
}

// NewTable reads the template. One that cannot be used is an error that wraps [ErrBadTemplate] and
// names the file. NewTable starts nothing.
func NewTable(c Config) (*Table, error) {
	if c.Refresh <= 0 {
		c.Refresh = 5 * time.Second
	}
	t := &Table{cfg: c, policy: c.Policy, kick: make(chan struct{}, 1), boxes: map[*xds.Mailbox]struct{}{}}
	file, err := watchfile.Open(t.parse, c.File)
	if err != nil {
		return nil, err
	}
	t.file, t.template = file, file.Now()
	t.name = t.template.name
	t.poke()
	return t, nil
}

// parse makes a template of the file. After the first one, its name must not change.
func (t *Table) parse(files []watchfile.File) (*Template, error) {
	f := files[0]
	if f.Err != nil {
		return nil, f.Err
	}
	p, err := Parse(f.Bytes, t.cfg.Options)
	if err == nil && t.name != "" && p.name != t.name {
		err = bad("its name was %q and is now %q, which would be another listener: "+
			"restart lockstepd if that is meant", t.name, p.name)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.Path, err)
	}
	return p, nil
}

// read takes over what stands in the file.
func (t *Table) read() {
	changed, fault := t.file.Look()
	if fault != nil {
		t.cfg.Log.Error("the listener's template cannot be used; the last good one stays in force", "err", fault)
	}
	if !changed {
		return
	}
	t.cfg.Log.Info("the listener's template has changed: every chain is replaced", "file", t.cfg.File)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.template = t.file.Now()
	t.poke()
}

// Problem returns why the template in the file is not in force. It is nil while it is.
func (t *Table) Problem() error { return t.file.Err() }

// Port is where a node listens that has taken the listener; 0: not on a port.
func (t *Table) Port() uint16 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.template.port
}

// SetHosts says which hosts are eager, each once. Run serves them after a moment, in which more may come. The slice must not be changed afterwards.
func (t *Table) SetHosts(hosts []keysource.Name) {
	hosts = slices.Sorted(slices.Values(hosts))
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.known && slices.Equal(hosts, t.hosts) {
		return
	}
	t.hosts, t.known = hosts, true
	t.poke()
}

// SetPolicy puts another policy in the place of Config.Policy.
func (t *Table) SetPolicy(p Policy) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.policy = p
	t.poke()
}

// HostsOf lists the hosts that have a chain in a version of the listener; ok is false for one that is not remembered. The list is shared.
//
// Remembered are the versions of the last two changes, and older ones while there is room, but of one change no more than 1024 sets of hosts. A node whose
// policy gives it a set beyond those is served like any other; only what it serves is not known here, and after each change it is sent the
// certificates of all its chains again.
func (t *Table) HostsOf(version string) (hosts []keysource.Name, ok bool) {
	return t.editions.of(version)
}

// All implements [xds.Wildcard].
func (t *Table) All() []string { return []string{t.name} }

// Brings implements [xds.Referring]: the certificates of the hosts that a version has a chain for and the one before has not; where that is not known, all.
func (t *Table) Brings(before, version string) (names []string) {
	had, _ := t.editions.of(before)
	has, ok := t.editions.of(version)
	if !ok {
		t.mu.Lock()
		if had = nil; t.now != nil {
			has = t.now.hosts
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
	now := t.now
	t.mu.Unlock()
	if now == nil {
		return nil, xds.NotYet
	}
	return now.listener(node.Identity), xds.Present
}

// Watch implements [xds.Resources].
func (t *Table) Watch(_ xds.Node, name string, box *xds.Mailbox) {
	if name == t.name {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.boxes[box] = struct{}{}
	}
}

// Unwatch implements [xds.Resources].
func (t *Table) Unwatch(_ xds.Node, name string, box *xds.Mailbox) {
	if name == t.name {
		t.mu.Lock()
		defer t.mu.Unlock()
		delete(t.boxes, box)
	}
}

// poke has Run look.
func (t *Table) poke() {
	select {
	case t.kick <- struct{}{}:
	default:
	}
}
