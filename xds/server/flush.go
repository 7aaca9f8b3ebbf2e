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
	case state == xds.Present && f.wanted(e, r):
		f.send(e, r)
	case state == xds.Absent && !f.m.sotw: // SotW has no words for it
		e.evicted = false // what comes after is news
		if e.removed && !e.again {
			return
		}
		f.m.unpark(e)
		e.sent, e.accepted, e.sentAt, e.refused = "", "", f.now.UnixNano(), nil
		e.removed, e.again, e.claimed = true, false, false
		f.m.groups.leave(e)
		f.remove(e.sub, e.name)
	}
}

// wanted reports whether r is to be sent now.
func (f *flusher) wanted(e *entry, r *xds.Resource) bool {
	again := e.again
	e.again = false
	if e.evicted && !again {
		return false // the node is about to unsubscribe
	}
	if e.claimed {
		e.claimed = false
		if e.sent == r.Version {
			if e.sub.demand {
				f.m.turnover.hold(e)
			}
			e.accepted = r.Version
			f.m.emit(e, xds.Accepted, r.Version, "", f.now)
			return false
		}
	}
	if e.parkedAt(r.Version) {
		return false
	}
	return again || e.sent != r.Version
}

func (f *flusher) send(e *entry, r *xds.Resource) {
	b, l := &f.resources, &f.m.env.limits
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
	b.items = append(b.items, item{e: e, version: r.Version})
	if e.refused != nil && e.refused.version != r.Version {
		f.m.unpark(e)
	}
	e.sent, e.sentAt, e.removed = r.Version, f.now.UnixNano(), false
	if e.sub.demand {
		f.m.turnover.hold(e)
	}
	f.m.emit(e, xds.Sent, r.Version, "", f.now)
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
	f.out = append(f.out, r)
	*b = batch{}
}

const grpcHeader = 5 // bytes before each message
