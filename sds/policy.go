package sds

import (
	"maps"
	"slices"

	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/xds"
)

// Policy says what a node may have, by the identity that its transport proved ([xds.Node].Identity). It is asked at each look-up: its
// methods cost a few map look-ups, never block, and are safe for concurrent use.
type Policy interface {
	AllowsScope(identity, scope string) bool           // the ring of a scope
	AllowsName(identity string, n keysource.Name) bool // the certificate under a name
}

// peer is who is behind a mailbox.
type peer struct {
	node  xds.Node
	names int // that it watches
}

// meet and leave count what a mailbox watches. The caller holds mu.
func (t *Table) meet(node xds.Node, box *xds.Mailbox) {
	if t.peers == nil {
		return
	}
	if t.peers[box] == nil {
		t.peers[box] = &peer{node: node}
	}
	t.peers[box].names++
}

func (t *Table) leave(box *xds.Mailbox) {
	p := t.peers[box]
	if p == nil {
		return
	}
	if p.names--; p.names == 0 {
		delete(t.peers, box)
	}
}

func (t *Table) mayHave(node xds.Node, e *entry) bool {
	p := t.policy.Load()
	return p == nil || e.name == "" || (*p).AllowsName(node.Identity, e.name)
}

func (t *Table) mayHaveRing(node xds.Node, scope string) bool {
	p := t.policy.Load()
	return p == nil || (*p).AllowsScope(node.Identity, scope)
}

// atOnce is how many names are judged before others may look something up.
const atOnce = 256

// SetPolicy puts another policy in the place of Config.Policy, which must not have been nil. It counts from now on, on open streams too: those whose
// answer it changes are woken, and no others. To be called by one goroutine at a time.
func (t *Table) SetPolicy(p Policy) {
	old := *t.policy.Swap(&p)
	t.mu.Lock()
	entries := slices.Collect(maps.Values(t.certs))
	scopes := slices.Collect(maps.Keys(t.rings))
	t.mu.Unlock()
	for some := range slices.Chunk(entries, atOnce) {
		t.judge(func(tell func(*peer, string)) {
			for _, e := range some {
				t.judgeName(e, old, p, tell)
			}
		})
	}
	for _, scope := range scopes {
		t.judge(func(tell func(*peer, string)) { t.judgeRing(scope, old, p, tell) })
	}
}

// judge holds mu for f, then passes on what f tells of denials.
func (t *Table) judge(f func(tell func(who *peer, name string))) {
	type denial struct {
		node xds.Node
		name string
	}
	var denied []denial
	t.mu.Lock()
	f(func(who *peer, name string) { denied = append(denied, denial{who.node, name}) })
	t.mu.Unlock()
	for _, d := range denied {
		t.cfg.Denied(d.node, d.name)
	}
}

func (t *Table) judgeName(e *entry, old, now Policy, tell func(*peer, string)) {
	if e.gone || e.name == "" {
		return
	}
	for box := range e.all() {
		who := t.peers[box]
		before, after := old.AllowsName(who.node.Identity, e.name), now.AllowsName(who.node.Identity, e.name)
		switch {
		case before == after:
			continue
		case after:
			t.want(e)
		default:
			tell(who, e.asked)
		}
		box.Put(e.asked)
	}
}

// judgeRing tells what a node may no longer have: it is sent no ring from now on, and nothing takes away the one that it holds.
func (t *Table) judgeRing(scope string, old, now Policy, tell func(*peer, string)) {
	name := keysource.RingName(scope)
	for _, box := range t.rings[scope] {
		who := t.peers[box]
		if who.node.Service != xds.SDS {
			continue
		}
		before, after := old.AllowsScope(who.node.Identity, scope), now.AllowsScope(who.node.Identity, scope)
		switch {
		case before && !after:
			tell(who, name)
		case !before && after:
			box.Put(name)
		}
	}
}
