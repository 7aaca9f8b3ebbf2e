package server

import (
	"time"

	"github.com/lockstep-tls/lockstep/xds"
)

// promptBytes is how many bytes grpc-go takes for a stream before SendMsg blocks (its write
// quota). Acknowledged bytes have left the quota. So while less than this is unacknowledged a send
// does not block, however large it is.
const promptBytes = 64 << 10

// flush answers what is due, until the bound on unacknowledged bytes is reached. It looks each
// name up as it sends it, so a name that changed often while it waited is sent once.
func (m *machine) flush(now time.Time) []*response {
	f := flusher{m: m, now: now}
	// There are no more of these than the request brought, so the bound need not hold them back.
	for _, a := range m.absentNames {
		f.remove(a.sub, a.name)
	}
	m.absentNames = nil
	i := 0
	for ; i < len(m.due) && f.hasRoom(); i++ {
		e := m.due[i]
		e.due = false
		if e.gone {
			m.dueGone--
		} else {
			f.answer(e)
		}
	}
	if i == len(m.due) && cap(m.due) <= 4 {
		clear(m.due)
		m.due = m.due[:0]
	} else if i == len(m.due) {
		m.due = nil // an idle stream keeps no long queue
	} else {
		clear(m.due[:i])
		m.due = m.due[i:]
	}
	f.end(&f.removals)
	f.end(&f.resources)
	return f.out
}

// flusher is one run of flush.
type flusher struct {
	m                   *machine
	now                 time.Time
	resources, removals batch
	out                 []*response
}

// hasRoom reports whether more may be sent before the node acknowledges.
func (f *flusher) hasRoom() bool {
	l, o := &f.m.env.limits, &f.m.out
	// 2: both batches
	return o.bytes()+f.resources.size+f.removals.size < l.unacked && o.count()+2 <= l.inFlight
}

// answer looks e up and sends what the node is to have.
func (f *flusher) answer(e *entry) {
	r, state := e.sub.src.Lookup(f.m.node, e.name)
	switch {
	// A wake-up will come. What the node asked for stands until then.
	case state == xds.NotYet:
		f.m.wait(e, f.now)
	case state == xds.Present && e.sub.demand && !f.m.admit(e, r.Group):
		f.m.markEvicted(e, f.now)
		f.m.env.counters.crowded.Add(1)
		f.remove(e.sub, e.name)
	case state == xds.Present:
		f.present(e, r)
	case state == xds.Absent && !f.m.sotw: // SotW cannot say that a name is absent
		e.evicted = false // the next resource is a new one
		if e.removed && !e.again {
			return
		}
		f.m.clearRefusal(e)
		f.withdraw(e)
	}
}

// withdraw tells the node that e is absent.
func (f *flusher) withdraw(e *entry) {
	e.sent, e.accepted, e.sentAt = "", "", f.now.UnixNano()
	e.removed, e.again, e.claimed, e.firstSent, e.secondDue, e.inDoubt = true, false, false, false, false, false
	delete(f.m.waiting, e)
	f.m.groups.leave(e)
	f.remove(e.sub, e.name)
}

// present sends r if the node is to have it now.
func (f *flusher) present(e *entry, r *xds.Resource) {
	again := e.again
	e.again = false
	if e.evicted && !again {
		return // the node is about to unsubscribe
	}
	if e.shared {
		e.again = again
		return // acknowledge looks at e again
	}
	if r.StandIn && e.sub.vary != nil {
		f.standIn(e, r, again)
		return
	}
	content, _ := xds.Content(r.Version)
	if e.claimed && f.compareClaim(e, content) {
		return
	}
	if ref := e.refused; ref != nil && ref.version == content {
		if ref.index >= 0 {
			return // parked
		}
		if ref.stage == remedyDue || again && (ref.stage == remedySent || ref.stage == cured) {
			f.sendRemedy(e)
			return
		}
		if ref.stage == remedySent || ref.stage == cured {
			return
		}
	}
	if !again && !e.secondDue && e.sent == content {
		// The content is now the remedy that the node took.
		if ref := e.refused; ref != nil && ref.stage == cured && e.accepted == content {
			f.m.clearRefusal(e)
			f.m.emit(e, xds.Accepted, content, "", f.now)
		}
		return
	}
	if f.dropsUncured(e, content) {
		return
	}
	f.offer(e, r, false)
}

// compareClaim compares what the node says it holds with content, and reports whether the node
// needs nothing.
func (f *flusher) compareClaim(e *entry, content string) bool {
	e.claimed = false
	claim, believed := xds.Content(e.sent)
	e.sent, e.inDoubt = claim, e.sub.vary != nil
	if claim != content {
		e.alone = e.alone || believed
		return false
	}
	if e.sub.vary != nil && !believed {
		e.sent = "" // the ACK behind the claim may not have counted: it is sent again
		return false
	}
	if e.sub.demand {
		f.m.eviction.hold(e)
	}
	e.accepted, e.inDoubt = content, false
	f.m.emit(e, xds.Accepted, content, "", f.now)
	return true
}

// offer sends r, in the encoding whose ACK counts if there is one.
func (f *flusher) offer(e *entry, r *xds.Resource, remedy bool) {
	content, _ := xds.Content(r.Version)
	it := item{e: e, version: content, counts: true, remedy: remedy, standIn: r.StandIn}
	e.secondDue = false
	e.withdrawn = e.withdrawn && r.StandIn
	if e.sub.vary != nil {
		// After a reconnect the node must claim only what it uses. If it refuses several resources
		// together it may use some of them under the version before. So what replaces another
		// version is sent alone.
		e.alone = e.alone || e.accepted != ""
		r, it.counts = e.encoding(r, content)
		e.body, e.bodyUnknown, e.firstSent = r.Body, false, !it.counts
	}
	f.send(it, r)
}

// send puts r into a response.
func (f *flusher) send(it item, r *xds.Resource) {
	e, b, l := it.e, &f.resources, &f.m.env.limits
	size := len(r.Name) + len(r.Body.GetValue())
	if b.count > 0 && (f.m.sotw || e.alone || b.alone || b.sub != e.sub || b.count == l.burst ||
		b.size+size > l.bytes) {
		f.end(b)
	}
	b.sub, b.alone = e.sub, e.alone
	if f.m.sotw {
		b.sotw(r)
	} else {
		ttl := time.Duration(0)
		if e.sub.demand {
			ttl = r.TTL(f.now)
		}
		b.delta(r, ttl)
	}
	b.count++
	b.items = append(b.items, it)
	if e.refused != nil && e.refused.version != it.version && !it.remedy {
		f.m.unpark(e)
	}
	first := e.sub.demand && e.sentAt == 0 && e.sent == ""
	e.sent, e.sentAt, e.removed = it.version, f.now.UnixNano(), false
	if e.sub.demand {
		f.m.eviction.hold(e)
	}
	f.m.emitSent(e, it.version, first, f.now)
}

// remove puts the removal of name into a response.
func (f *flusher) remove(sub *subscription, name string) {
	b, l := &f.removals, &f.m.env.limits
	if b.count > 0 && (b.sub != sub || b.size+len(name) > l.bytes || b.count == 16*l.burst) {
		f.end(b)
	}
	b.sub = sub
	b.remove(name)
}

// end turns b into a response, unless it is empty.
func (f *flusher) end(b *batch) {
	if b.count == 0 {
		return
	}
	m := f.m
	nonce := m.out.nonce()
	r := b.finish(nonce)
	r.prompt = m.out.bytes() < promptBytes
	m.out.add(&record{nonce: nonce, items: b.items}, r.size+grpcHeader, m.env.limits.nonces)
	m.env.counters.responses.Add(1)
	if len(b.items) > 1 && b.sub.vary != nil {
		for _, it := range b.items {
			it.e.shared = true
		}
	}
	f.out = append(f.out, r)
	*b = batch{}
}

// grpcHeader is how many bytes gRPC puts before each message.
const grpcHeader = 5
