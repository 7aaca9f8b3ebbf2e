package sds

import (
	"time"

	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/xds"
)

// foundUnder returns the name under which the certificate of e was found.
func (e *entry) foundUnder() keysource.Name {
	if e.wild {
		return e.name.Wildcard()
	}
	return e.name
}

// change wakes those who watch e, whose certificate has changed, or starts a trial of it. before
// is what it was, or nil. The caller holds mu.
func (t *Table) change(e *entry, before *xds.Resource) {
	if t.cfg.Trials == nil || !t.startTrial(e, before) {
		t.endPending(e)
		e.wake(e.asked)
	}
}

// startTrial puts the new certificate of e on trial. It reports false if every node gets it at
// once.
func (t *Table) startTrial(e *entry, before *xds.Resource) bool {
	n, content := e.foundUnder(), contentOf(e.res)
	// Only the place where it was found has changed.
	if before != nil && contentOf(before) == content {
		if e.pending != nil {
			e.wake(e.asked)
		}
		return e.pending != nil
	}
	released, kinds := t.cfg.Trials.Known(n, content)
	tr := t.trials[n]
	if tr != nil && tr.version != content {
		tr = nil
	}
	switch {
	case released, tr != nil && tr.everyKindGets(), !e.differs(content):
		return false
	case before == nil:
		if tr = t.refusedBefore(tr, n, content, kinds); tr == nil {
			return false
		}
	case tr == nil && t.cfg.OnlyReplica && !t.several(n):
		return false
	}
	if tr == nil {
		tr = t.newTrial(n, content)
	}
	e.pending = &pendingChange{trial: tr, previous: before, earlier: e.pending.latest(maxEarlier)}
	if b := e.pending.earlier; b != nil {
		t.supersede(b.trial, e)
	}
	tr.entries[e] = struct{}{}
	for mailbox := range e.all() {
		p := t.peers[mailbox]
		if p == nil || !t.mayHave(p.node, e) || t.spellings.refuses(p.node, e) {
			continue
		}
		if tr.kinds[tr.kindOf(p.node)] == nil && before != nil {
			t.startKind(tr, p.node)
		}
		if before == nil || tr.gets(p.node) {
			mailbox.Put(e.asked)
		}
	}
	return true
}

// differs reports whether content differs from what all nodes have.
func (e *entry) differs(content string) bool {
	last := e.pending
	for last != nil && last.earlier != nil {
		last = last.earlier
	}
	return last == nil || last.previous == nil || contentOf(last.previous) != content
}

// latest keeps the last n changes.
func (y *pendingChange) latest(n int) *pendingChange {
	if y == nil || n == 0 {
		return nil
	}
	return &pendingChange{trial: y.trial, previous: y.previous, earlier: y.earlier.latest(n - 1)}
}

// everyKindGets reports whether every node gets the new certificate.
func (tr *trial) everyKindGets() bool { return tr.open == 0 && len(tr.kinds) > 0 && !tr.refused() }

// refused reports whether a kind of node does not get it.
func (tr *trial) refused() bool {
	for _, a := range tr.kinds {
		if a.outcome == keysource.Refused {
			return true
		}
	}
	return false
}

// several reports whether more than one stream watches something that shows the certificate of n.
func (t *Table) several(n keysource.Name) bool {
	var first *xds.Mailbox
	more := func(e *entry) bool {
		if e == nil {
			return false
		}
		for mailbox := range e.all() {
			if first != nil && mailbox != first {
				return true
			}
			first = mailbox
		}
		return false
	}
	if more(t.certs[string(n)]) {
		return true
	}
	for e := range t.dependents[n] {
		if more(e) {
			return true
		}
	}
	return false
}

// refusedBefore returns the trial of a content that is the first of an entry, if a kind of node
// refused it. That kind is not sent it.
func (t *Table) refusedBefore(tr *trial, n keysource.Name, content string, kinds map[string]keysource.Verdict) *trial {
	for kind, v := range kinds {
		if v.Outcome != keysource.Refused {
			continue
		}
		if tr == nil {
			tr = t.newTrial(n, content)
		}
		if tr.kinds[kind] == nil {
			a := &kindTrial{trial: tr, kind: kind, by: v.Node, done: make(chan struct{}), outcome: keysource.Refused,
				words: v.Words, since: v.Since}
			close(a.done)
			tr.kinds[kind] = a
		}
	}
	if tr == nil || !tr.refused() {
		return nil
	}
	return tr
}

// newTrial returns a new trial of n, which takes the place of an older one.
func (t *Table) newTrial(n keysource.Name, content string) *trial {
	tr := &trial{name: n, version: content, kinds: map[string]*kindTrial{}, entries: map[*entry]struct{}{}}
	t.trials[n] = tr
	return tr
}

// supersede ends an older trial for e, which has another content now. With its last entry the
// trial decides nothing any more.
func (t *Table) supersede(tr *trial, e *entry) {
	delete(tr.entries, e)
	if tr.superseded || len(tr.entries) > 0 {
		return
	}
	tr.superseded = true
	for _, a := range tr.kinds {
		if a.outcome == keysource.Trying {
			t.closeKind(a)
		}
	}
	if t.trials[tr.name] == tr {
		delete(t.trials, tr.name)
	}
}

// endPending takes e out of its trials.
func (t *Table) endPending(e *entry) {
	for y := e.pending; y != nil; y = y.earlier {
		t.supersede(y.trial, e)
	}
	e.pending = nil
}

// startKind lets node go first of its kind, unless the fleet has another. The caller holds mu.
func (t *Table) startKind(tr *trial, node xds.Node) {
	if tr.superseded {
		return
	}
	a := &kindTrial{trial: tr, kind: tr.kindOf(node), node: node.ID, stream: node.Stream, done: make(chan struct{}),
		since: time.Now()}
	tr.kinds[a.kind] = a
	tr.open++
	t.trialsOpen.Add(1)
	t.trialQueue = append(t.trialQueue, a)
	select {
	case t.trialQueued <- struct{}{}:
	default:
	}
}

// closeKind notes that a has an outcome, or can have none any more.
func (t *Table) closeKind(a *kindTrial) {
	a.trial.open--
	t.trialsOpen.Add(-1)
	close(a.done)
}
