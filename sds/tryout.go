package sds

import (
	"time"

	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/xds"
)

// found is the name under which the certificate of e was found.
func (e *entry) found() keysource.Name {
	if e.wild {
		return e.name.Wildcard()
	}
	return e.name
}

// change tells those who watch e that its certificate is another one. before is what it was, or nil. The caller holds mu.
func (t *Table) change(e *entry, before *xds.Resource) {
	if t.cfg.Trials == nil || !t.tryOut(e, before) {
		t.endTrying(e)
		e.wake(e.asked)
	}
}

// tryOut puts the new certificate of e on trial. It reports false if every node gets it at once.
func (t *Table) tryOut(e *entry, before *xds.Resource) bool {
	n, content := e.found(), contentOf(e.res)
	if before != nil && contentOf(before) == content { // only where it was found is another place
		if e.trying != nil {
			e.wake(e.asked)
		}
		return e.trying != nil
	}
	released, kinds := t.cfg.Trials.Known(n, content)
	tr := t.trials[n]
	if tr != nil && tr.version != content {
		tr = nil
	}
	switch {
	case released, tr != nil && tr.over(), !e.differs(content):
		return false
	case before == nil:
		if tr = t.refusedBefore(tr, n, content, kinds); tr == nil {
			return false
		}
	case tr == nil && t.cfg.Alone && !t.several(n):
		return false
	}
	if tr == nil {
		tr = t.newTrial(n, content)
	}
	e.trying = &trying{trial: tr, was: before, behind: e.trying.cut(maxBehind)}
	if b := e.trying.behind; b != nil {
		t.replace(b.trial, e)
	}
	tr.entries[e] = struct{}{}
	for box := range e.all() {
		p := t.peers[box]
		if p == nil || !t.mayHave(p.node, e) || t.doors.shut(p.node, e) {
			continue
		}
		if tr.kinds[tr.kindOf(p.node)] == nil && before != nil {
			t.attempt(tr, p.node)
		}
		if before == nil || tr.gets(p.node) {
			box.Put(e.asked)
		}
	}
	return true
}

// differs reports whether content is another one than all nodes have.
func (e *entry) differs(content string) bool {
	last := e.trying
	for last != nil && last.behind != nil {
		last = last.behind
	}
	return last == nil || last.was == nil || contentOf(last.was) != content
}

// cut keeps the last n changes.
func (y *trying) cut(n int) *trying {
	if y == nil || n == 0 {
		return nil
	}
	return &trying{trial: y.trial, was: y.was, behind: y.behind.cut(n - 1)}
}

// over reports whether every node gets the new certificate.
func (tr *trial) over() bool { return tr.open == 0 && len(tr.kinds) > 0 && !tr.refused() }

// refused reports whether a kind of node does not get it.
func (tr *trial) refused() bool {
	for _, a := range tr.kinds {
		if a.outcome == keysource.Refused {
			return true
		}
	}
	return false
}

// several reports whether more than one stream watches what shows the certificate of n.
func (t *Table) several(n keysource.Name) bool {
	var first *xds.Mailbox
	more := func(e *entry) bool {
		if e == nil {
			return false
		}
		for box := range e.all() {
			if first != nil && box != first {
				return true
			}
			first = box
		}
		return false
	}
	if more(t.certs[string(n)]) {
		return true
	}
	for e := range t.under[n] {
		if more(e) {
			return true
		}
	}
	return false
}

// refusedBefore returns the trial of a content that an entry has as its first, if a kind of node refused it. That kind is not sent it.
func (t *Table) refusedBefore(tr *trial, n keysource.Name, content string, kinds map[string]keysource.Verdict) *trial {
	for kind, v := range kinds {
		if v.Outcome != keysource.Refused {
			continue
		}
		if tr == nil {
			tr = t.newTrial(n, content)
		}
		if tr.kinds[kind] == nil {
			a := &attempt{trial: tr, kind: kind, by: v.Node, done: make(chan struct{}), outcome: keysource.Refused, words: v.Words, since: v.Since}
			close(a.done)
			tr.kinds[kind] = a
		}
	}
	if tr == nil || !tr.refused() {
		return nil
	}
	return tr
}

// newTrial takes the place of an older trial of n.
func (t *Table) newTrial(n keysource.Name, content string) *trial {
	tr := &trial{name: n, version: content, kinds: map[string]*attempt{}, entries: map[*entry]struct{}{}}
	t.trials[n] = tr
	return tr
}

// replace ends what an older trial can still decide, with the change of e to another content.
func (t *Table) replace(tr *trial, e *entry) {
	delete(tr.entries, e)
	if tr.old || len(tr.entries) > 0 {
		return
	}
	tr.old = true
	for _, a := range tr.kinds {
		if a.outcome == keysource.Trying {
			t.close(a)
		}
	}
	if t.trials[tr.name] == tr {
		delete(t.trials, tr.name)
	}
}

// endTrying takes e out of its trials.
func (t *Table) endTrying(e *entry) {
	for y := e.trying; y != nil; y = y.behind {
		t.replace(y.trial, e)
	}
	e.trying = nil
}

// attempt lets node go first of its kind, if the fleet has no other. The caller holds mu.
func (t *Table) attempt(tr *trial, node xds.Node) {
	if tr.old {
		return
	}
	a := &attempt{trial: tr, kind: tr.kindOf(node), node: node.ID, stream: node.Stream, done: make(chan struct{}), since: time.Now()}
	tr.kinds[a.kind] = a
	tr.open++
	t.trialsOpen.Add(1)
	t.attempts = append(t.attempts, a)
	select {
	case t.attempted <- struct{}{}:
	default:
	}
}

// close notes that a has come to its end.
func (t *Table) close(a *attempt) {
	a.trial.open--
	t.trialsOpen.Add(-1)
	close(a.done)
}
