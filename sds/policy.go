package sds

import (
	"maps"
	"slices"

	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/xds"
)

// Policy says what a node may have, by the identity that its transport proved
// ([xds.Node].Identity). It is asked at each look-up. So its methods cost a few map look-ups,
// never block, and are safe for concurrent use.
type Policy interface {
	AllowsScope(identity, scope string) bool           // of its ring
	AllowsName(identity string, n keysource.Name) bool // of its certificate
}

// peer is the node behind a mailbox.
type peer struct {
	node  xds.Node
	names int // how many names it watches
}

// addPeer notes that the mailbox watches one name more. The caller holds mu.
func (t *Table) addPeer(node xds.Node, mailbox *xds.Mailbox) {
	if t.peers == nil {
		return
	}
	if t.peers[mailbox] == nil {
		t.peers[mailbox] = &peer{node: node}
	}
	t.peers[mailbox].names++
}

// removePeer notes that the mailbox watches one name less. The caller holds mu.
func (t *Table) removePeer(mailbox *xds.Mailbox) {
	p := t.peers[mailbox]
	if p == nil {
		return
	}
	if p.names--; p.names == 0 {
		delete(t.peers, mailbox)
	}
}

// mayHave reports whether the policy allows node the certificate of e.
func (t *Table) mayHave(node xds.Node, e *entry) bool {
	p := t.policy.Load()
	return p == nil || e.name == "" || (*p).AllowsName(node.Identity, e.name)
}

// mayHaveRing reports whether the policy allows node the ring of scope.
func (t *Table) mayHaveRing(node xds.Node, scope string) bool {
	p := t.policy.Load()
	return p == nil || (*p).AllowsScope(node.Identity, scope)
}

// atOnce is how many names are judged before others may take the mutex.
const atOnce = 256

// SetPolicy replaces Config.Policy, which must not have been nil. The new policy counts from now
// on, on open streams too. It wakes the streams whose answer changes, and no others. Only one
// goroutine may call it at a time.
func (t *Table) SetPolicy(p Policy) {
	old := *t.policy.Swap(&p)
	t.mu.Lock()
	entries := slices.Collect(maps.Values(t.certs))
	scopes := slices.Collect(maps.Keys(t.rings))
	t.mu.Unlock()
	for some := range slices.Chunk(entries, atOnce) {
		t.reportDenials(func(deny func(*peer, string)) {
			for _, e := range some {
				t.judgeName(e, old, p, deny)
			}
		})
	}
	for _, scope := range scopes {
		t.reportDenials(func(deny func(*peer, string)) { t.judgeRing(scope, old, p, deny) })
	}
}

// reportDenials calls f with mu held, and then reports the denials that f passed to deny.
func (t *Table) reportDenials(f func(deny func(who *peer, name string))) {
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

// judgeName wakes the watchers of e whose answer changes, and denies what the new policy takes
// away.
func (t *Table) judgeName(e *entry, old, now Policy, deny func(*peer, string)) {
	if e.gone || e.name == "" {
		return
	}
	for mailbox := range e.all() {
		who := t.peers[mailbox]
		before, after := old.AllowsName(who.node.Identity, e.name), now.AllowsName(who.node.Identity, e.name)
		switch {
		case before == after:
			continue
		case after:
			t.want(e)
		default:
			deny(who, e.asked)
		}
		mailbox.Put(e.asked)
	}
}

// judgeRing does the same for the ring of scope. A node that may not have the ring any more is
// sent none from now on. It keeps the one that it holds.
func (t *Table) judgeRing(scope string, old, now Policy, deny func(*peer, string)) {
	name := keysource.RingName(scope)
	for _, mailbox := range t.rings[scope] {
		who := t.peers[mailbox]
		if who.node.Service != xds.SDS {
			continue
		}
		before, after := old.AllowsScope(who.node.Identity, scope), now.AllowsScope(who.node.Identity, scope)
		switch {
		case before && !after:
			deny(who, name)
		case !before && after:
			mailbox.Put(name)
		}
	}
}
