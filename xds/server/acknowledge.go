package server

import (
	"container/heap"
	"time"

	statuspb "google.golang.org/genproto/googleapis/rpc/status"

	"github.com/lockstep-tls/lockstep/xds"
)

// acknowledge takes the nonce of a request. The request is an ACK, or with a failure a NACK. A
// nonce that is not outstanding acknowledges nothing.
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
			m.look(it.e) // the resource may have changed since it was sent
		}
	}
	switch {
	case failure == nil:
		for _, it := range rec.items {
			if !it.e.gone {
				m.ackItem(it, now)
			}
		}
	case len(rec.items) == 1:
		if it := rec.items[0]; !it.e.gone {
			m.nackItem(it, printable(failure.GetMessage(), maxWords), now)
		}
	// The node does not say which resource it refused, nor which it stored. So each is offered
	// alone before anything counts as refused.
	default:
		for _, it := range rec.items {
			if e := it.e; !e.gone && e.sent == it.version {
				e.forgetBody()
				e.again, e.alone = true, true
				m.look(e)
			}
		}
	}
}

// ackItem notes the ACK of one resource.
func (m *machine) ackItem(it item, now time.Time) {
	e := it.e
	switch {
	case e.sub.vary == nil:
		m.accept(e, it.version, now)
	case !it.counts:
		if e.firstSent {
			e.firstSent, e.secondDue = false, true
			m.look(e)
		}
	case it.remedy:
		m.acceptRemedy(it, now)
	case it.standIn: // a stand-in never counts as accepted
	default:
		m.accept(e, it.version, now)
	}
}

// accept notes that the node uses version of e.
func (m *machine) accept(e *entry, version string, now time.Time) {
	if e.removed {
		return // version was sent before the removal, which the node has by now or gets soon
	}
	m.resendNamed(e, version)
	e.accepted, e.inDoubt = version, false
	if version == e.sent {
		e.alone = false
	}
	if e.refused != nil && (version == e.sent || version == e.refused.version) {
		m.clearRefusal(e)
		m.look(e) // a remedy may have been sent
	}
	m.emitAccepted(e, version, now)
}

// clearRefusal forgets what the node refused, since the node has taken what it should have.
func (m *machine) clearRefusal(e *entry) {
	m.unpark(e)
	e.refused = nil
	m.unblock(e)
}

// resendNamed sends again resources that the accepted version of e names and the version before
// did not name. It does so only if the node had them before. See [xds.Referring].
func (m *machine) resendNamed(e *entry, version string) {
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

// nackItem notes that the node refused what it was sent. It looks at once whether there is
// something better by now.
func (m *machine) nackItem(it item, words string, now time.Time) {
	e, version := it.e, it.version
	r, l := e.refused, &m.env.limits
	e.firstSent, e.secondDue = false, false
	if it.remedy {
		m.refuseRemedy(it, words)
		return
	}
	m.emit(e, xds.Refused, version, words, now)
	if e.sub.vary != nil && e.accepted == version {
		e.accepted, e.inDoubt = "", true // Envoy would ACK the same bytes without looking at them
	}
	if e.removed || r != nil && version != e.sent && (r.version == e.sent || e.sub.vary != nil) {
		return // the NACK is about a version older than the refusal that is known
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
	// Another version was sent meanwhile, or e is parked already.
	case version != e.sent || r.index >= 0:
	case e.sub.vary != nil && r.stage != stuck:
		r.stage = remedyDue
	default:
		m.park(e, now.Add(r.wait))
	}
	e.alone = true
	m.look(e)
}

// park has e looked at again at the given time.
func (m *machine) park(e *entry, at time.Time) {
	e.refused.retry = at
	heap.Push(&m.parked, e)
}

// unpark takes e out of the heap of parked entries, if it is there.
func (m *machine) unpark(e *entry) {
	if e.refused != nil && e.refused.index >= 0 {
		heap.Remove(&m.parked, e.refused.index)
	}
}
