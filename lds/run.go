package lds

import (
	"context"
	"maps"
	"slices"
	"time"
)

// A change is served once nothing else has changed for quiet, and after atMost in any case: each update costs every Envoy a look at all chains.
const (
	quiet  = 500 * time.Millisecond
	atMost = 2 * time.Second
)

// Run serves what was set, and reads the template again, until ctx ends; then it returns nil. To be called once.
func (t *Table) Run(ctx context.Context) error {
	tick := time.NewTicker(t.cfg.Refresh)
	defer tick.Stop()
	var due, last time.Time // when the change is to be served, at the latest; zero: there is none
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			t.read()
		case <-t.kick:
			now := time.Now()
			if due.IsZero() {
				last = now.Add(atMost)
			}
			if due = now.Add(quiet); due.After(last) {
				due = last
			}
			if t.unserved() {
				due = now // nodes wait
			}
			timer.Reset(time.Until(due))
		case <-timer.C:
			due = time.Time{}
			t.serve()
		}
	}
}

func (t *Table) unserved() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.now == nil
}

// serve puts what was set into force and wakes the nodes; those for which nothing changes are sent nothing.
func (t *Table) serve() {
	t.mu.Lock()
	template, hosts, policy, last, known := t.template, t.hosts, t.policy, t.now, t.known
	t.mu.Unlock()
	if !known {
		return
	}
	t.editions.begin()
	next, err := newBuild(template, hosts, policy, last, t.editions.note)
	if err != nil { // Parse has made a chain: with these hosts it cannot fail
		t.cfg.Log.Error("the listener cannot be encoded; the last one stays", "err", err)
		return
	}
	t.mu.Lock()
	t.now = next
	boxes := slices.Collect(maps.Keys(t.boxes))
	t.mu.Unlock()
	for _, box := range boxes {
		box.Put(t.name)
	}
}
