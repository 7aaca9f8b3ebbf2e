package lds

import (
	"context"
	"maps"
	"slices"
	"time"
)

// A change is served once nothing else has changed for quiet, and after quietAtMost in any case.
// Each update costs every Envoy a look at all chains.
const (
	quiet       = 500 * time.Millisecond
	quietAtMost = 2 * time.Second
)

// Run serves what was set, and reads the template again and again, until ctx ends. Then it returns
// nil. It must be called only once.
func (t *Table) Run(ctx context.Context) error {
	tick := time.NewTicker(t.cfg.Refresh)
	defer tick.Stop()
	// due is when the change is to be served, last the latest time for that. due is zero if there
	// is no change.
	var due, last time.Time
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			t.read()
		case <-t.changed:
			now := time.Now()
			if due.IsZero() {
				last = now.Add(quietAtMost)
			}
			if due = now.Add(quiet); due.After(last) {
				due = last
			}
			if t.nothingServed() {
				due = now // nodes wait for the first one
			}
			timer.Reset(time.Until(due))
		case <-timer.C:
			due = time.Time{}
			t.serve()
		}
	}
}

// nothingServed reports whether nothing is served yet.
func (t *Table) nothingServed() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.served == nil
}

// serve makes what was set effective, and wakes the nodes. Nodes for which nothing changes are
// sent nothing.
func (t *Table) serve() {
	t.mu.Lock()
	template, hosts, policy, last, known := t.template, t.hosts, t.policy, t.served, t.hostsSet
	t.mu.Unlock()
	if !known || template.opt.TicketLifetime == 0 {
		return
	}
	t.editions.begin()
	next, err := newBuild(template, hosts, policy, last, t.editions.note)
	// Parse has made a chain, so this cannot fail with these hosts.
	if err != nil {
		t.cfg.Log.Error("the listener cannot be encoded; the last one stays", "err", err)
		return
	}
	t.mu.Lock()
	t.served = next
	mailboxes := slices.Collect(maps.Keys(t.mailboxes))
	t.mu.Unlock()
	for _, mailbox := range mailboxes {
		mailbox.Put(t.name)
	}
}
