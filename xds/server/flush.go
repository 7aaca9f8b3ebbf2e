package server

import (
	"time"

	"github.com/lockstep-tls/lockstep/xds"
)

// promptBytes is what grpc-go takes for a stream before SendMsg blocks (its write quota). What is acknowledged has left the
// quota, so with less than this unacknowledged a send does not block, however large it is.
const promptBytes = 64 << 10

// flush answers what is due, until the bound on unacknowledged bytes is reached. Each name is looked up as it is sent, so one
// that changed often while it waited is sent once.
func (m *machine) flush(now time.Time) []*response {
	f := flusher{m: m, now: now}
	for _, a := range m.refused { // no more than the request brought: the bound need not hold them back
		f.remove(a.sub, a.name)
	}
	m.refused = nil
	i := 0
	for ; i < len(m.due) && f.open(); i++ {
		e := m.due[i]
		e.due = false
		if e.gone {
			m.left--
		} else {
			f.answer(e)
		}
	}
	if i == len(m.due) && cap(m.due) <= 4 {
		clear(m.due)
		m.due = m.due[:0]
	} else if i == len(m.due) {
		m.due = nil // an idle stream holds no long queue
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

func (f *flusher) open() bool {
	l, o := &f.m.env.limits, &f.m.out
	return o.bytes()+f.resources.size+f.removals.size < l.unacked && o.count()+2 <= l.inFlight // 2: both batches
}

func (f *flusher) answer(e *entry) {
	r, state := e.sub.src.Lookup(f.m.node, e.name)
	switch {
	case state == xds.NotYet: // a wake-up will come; what the node asked for stands until then
	case state == xds.Present && e.sub.demand && !f.m.admit(e, r.Group):
		f.m.absent(e, f.now)
		f.m.env.counters.crowded.Add(1)
		f.remove(e.sub, e.name)
	case state == xds.Present:
		f.present(e, r)
	case state == xds.Absent && !f.m.sotw: // SotW has no words for it
		e.evicted = false // what comes after is news
		if e.removed && !e.again {
			return
		}
		f.m.forgive(e)
		f.withdraw(e)
	}
}

// withdraw tells the node that e is absent.
func (f *flusher) withdraw(e *entry) {
	e.sent, e.accepted, e.sentAt = "", "", f.now.UnixNano()
	e.removed, e.again, e.claimed, e.half, e.second, e.doubted = true, false, false, false, false, false
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
		return // the answer brings us back
	}
	if r.StandIn && e.sub.vary != nil {
		f.standIn(e, r, again)
		return
	}
	content, _ := xds.Content(r.Version)
	if e.claimed && f.believe(e, content) {
		return
	}
	if ref := e.refused; ref != nil && ref.version == content {
		if ref.index >= 0 {
			return // parked
		}
		if ref.stage == ill || again && (ref.stage == treated || ref.stage == cured) {
			f.treat(e)
			return
		}
		if ref.stage == treated || ref.stage == cured {
			return
		}
	}
	if !again && !e.second && e.sent == content {
		if ref := e.refused; ref != nil && ref.stage == cured && e.accepted == content { // the remedy is what the node should have by now
			f.m.forgive(e)
			f.m.emit(e, xds.Accepted, content, "", f.now)
		}
		return
	}
	if f.leavesIll(e, content) {
		return
	}
	f.offer(e, r, false)
}

// believe compares what the node says it holds, and reports whether that is content.
func (f *flusher) believe(e *entry, content string) bool {
	e.claimed = false
	claim, believed := xds.Content(e.sent)
	e.sent, e.doubted = claim, e.sub.vary != nil
	if claim != content {
		e.alone = e.alone || believed
		return false
	}
	if e.sub.vary != nil && !believed {
		e.sent = "" // its ACK may have said nothing: it is sent again
		return false
	}
	if e.sub.demand {
		f.m.turnover.hold(e)
	}
	e.accepted, e.doubted = content, false
	f.m.emit(e, xds.Accepted, content, "", f.now)
	return true
}

// offer sends r, in the encoding whose ACK counts if there is one.
func (f *flusher) offer(e *entry, r *xds.Resource, remedy bool) {
	content, _ := xds.Content(r.Version)
	it := item{e: e, version: content, counts: true, remedy: remedy, standIn: r.StandIn}
	e.second = false
	e.left = e.left && r.StandIn
	if e.sub.vary != nil {
		// What the node claims after a reconnect must be what it uses. Of several that it refuses together it
		// may use some, under the version before. So what replaces another version goes alone.
		e.alone = e.alone || e.accepted != ""
		r, it.counts = e.encoding(r, content)
		e.body, e.unknown, e.half = r.Body, false, !it.counts
	}
	f.send(it, r)
}

// send puts r into a response.
func (f *flusher) send(it item, r *xds.Resource) {
	e, b, l := it.e, &f.resources, &f.m.env.limits
	size := len(r.Name) + len(r.Body.GetValue())
	if b.count > 0 && (f.m.sotw || e.alone || b.alone || b.sub != e.sub || b.count == l.burst || b.size+size > l.bytes) {
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
	e.sent, e.sentAt, e.removed = it.version, f.now.UnixNano(), false
	if e.sub.demand {
		f.m.turnover.hold(e)
	}
	f.m.emit(e, xds.Sent, it.version, "", f.now)
}

func (f *flusher) remove(sub *subscription, name string) {
	b, l := &f.removals, &f.m.env.limits
	if b.count > 0 && (b.sub != sub || b.size+len(name) > l.bytes || b.count == 16*l.burst) {
		f.end(b)
	}
	b.sub = sub
	b.remove(name)
}

// end turns b into a response, if there is anything in it.
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

const grpcHeader = 5 // bytes before each message
