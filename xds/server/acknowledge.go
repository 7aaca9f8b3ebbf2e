package server

import (
	"container/heap"
	"time"

	statuspb "google.golang.org/genproto/googleapis/rpc/status"

	"github.com/lockstep-tls/lockstep/xds"
)

// acknowledge takes the nonce of a request: an ACK, or with a failure a NACK. A nonce that is not outstanding acknowledges
// nothing.
func (m *machine) acknowledge(nonce string, failure *statuspb.Status, now time.Time) {
	if nonce == "" && failure == nil {
		return
	}
	rec := m.out.take(nonce)
	if rec == nil {
		m.env.counters.unknownNonces.Add(1)
		return
	}
	for _, it := range rec.items {
		if it.e.shared {
			it.e.shared = false
			m.look(it.e) // it may have changed since
		}
	}
	switch {
	case failure == nil:
		for _, it := range rec.items {
			if !it.e.gone {
				m.take(it, now)
			}
		}
	case len(rec.items) == 1:
		if it := rec.items[0]; !it.e.gone {
			m.refuse(it, printable(failure.GetMessage(), maxWords), now)
		}
	default: // nobody can say which of them was meant, nor which were stored: each is tried alone before anything counts as refused
		for _, it := range rec.items {
			if e := it.e; !e.gone && e.sent == it.version {
				e.doubt()
				e.again, e.alone = true, true
				m.look(e)
			}
		}
	}
}

// take notes an ACK.
func (m *machine) take(it item, now time.Time) {
	e := it.e
	switch {
	case e.sub.vary == nil:
		m.accept(e, it.version, now)
	case !it.counts:
		if e.half {
			e.half, e.second = false, true
			m.look(e)
		}
	case it.remedy:
		m.recover(it, now)
	case it.standIn: // it has accepted nothing
	default:
		m.accept(e, it.version, now)
	}
}

func (m *machine) accept(e *entry, version string, now time.Time) {
	if e.removed {
		return // sent before the removal, which the node has by now or will have soon
	}
	m.bring(e, version)
	e.accepted, e.doubted = version, false
	if version == e.sent {
		e.alone = false
	}
	if e.refused != nil && (version == e.sent || version == e.refused.version) {
		m.forgive(e)
		m.look(e) // a remedy may be on its way
	}
	m.emit(e, xds.Accepted, version, "", now)
}

// forgive forgets what the node refused: it has taken what it should have.
func (m *machine) forgive(e *entry) {
	m.unpark(e)
	e.refused = nil
	m.letPass(e)
}

// bring sends again what the version of e that the node has accepted names and the one before did not, as far as the node had it: see [xds.Referring].
func (m *machine) bring(e *entry, version string) {
	src, ok := e.sub.src.(xds.Referring)
	if !ok || version == e.accepted {
		return
	}
	for _, name := range src.Brings(e.accepted, version) {
		for _, sub := range m.subs {
			if other := sub.names[name]; other != nil && sub != e.sub && other.sentAt <= e.sentAt {
				other.again = true
				m.look(other)
			}
		}
	}
}

// refuse notes that the node does not take what it was sent, and looks at once whether there is something better by now.
func (m *machine) refuse(it item, words string, now time.Time) {
	e, version := it.e, it.version
	r, l := e.refused, &m.env.limits
	e.half, e.second = false, false
	if it.remedy {
		m.refuseRemedy(it, words)
		return
	}
	m.emit(e, xds.Refused, version, words, now)
	if e.sub.vary != nil && e.accepted == version {
		e.accepted, e.doubted = "", true // an ACK of the same bytes would say nothing now
	}
	if e.removed || r != nil && version != e.sent && (r.version == e.sent || e.sub.vary != nil) {
		return // of something older than what is known already
	}
	if r == nil || r.version != version {
		m.unpark(e)
		r = &refusal{version: version, since: now, wait: l.retry, index: -1}
		e.refused = r
	} else if r.index < 0 {
		r.wait = min(2*r.wait, l.retryMax)
	}
	r.words = words
	switch {
	case version != e.sent || r.index >= 0: // something else is on its way, or it is parked already
	case e.sub.vary != nil && r.stage != stuck:
		r.stage = ill
	default:
		m.park(e, now.Add(r.wait))
	}
	e.alone = true
	m.look(e)
}

// park has e looked at again at a time.
func (m *machine) park(e *entry, at time.Time) {
	e.refused.retry = at
	heap.Push(&m.parked, e)
}

func (m *machine) unpark(e *entry) {
	if e.refused != nil && e.refused.index >= 0 {
		heap.Remove(&m.parked, e.refused.index)
	}
}
