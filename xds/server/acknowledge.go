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
	switch {
	case rec == nil:
		m.env.counters.unknownNonces.Add(1)
	case failure == nil:
		for _, it := range rec.items {
			if !it.e.gone {
				m.accept(it.e, it.version, now)
			}
		}
	case len(rec.items) == 1:
		if it := rec.items[0]; !it.e.gone {
			m.refuse(it.e, it.version, printable(failure.GetMessage(), maxWords), now)
		}
	default: // nobody can say which of them was meant: each is tried alone before anything counts as refused
		for _, it := range rec.items {
			if e := it.e; !e.gone && e.sent == it.version {
				e.again, e.alone = true, true
				m.look(e)
			}
		}
	}
}

func (m *machine) accept(e *entry, version string, now time.Time) {
	if e.removed {
		return // sent before the removal, which the node has by now or will have soon
	}
	m.bring(e, version)
	e.accepted = version
	if version == e.sent {
		e.alone = false
	}
	if e.refused != nil && (version == e.sent || version == e.refused.version) {
		m.unpark(e)
		e.refused = nil
	}
	m.emit(e, xds.Accepted, version, "", now)
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

// refuse notes that the node does not take version, and looks at once whether there is something better by now.
func (m *machine) refuse(e *entry, version, words string, now time.Time) {
	m.emit(e, xds.Refused, version, words, now)
	r, l := e.refused, &m.env.limits
	if e.removed || r != nil && r.version == e.sent && version != e.sent {
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
	if version == e.sent && r.index < 0 {
		r.retry = now.Add(r.wait)
		heap.Push(&m.parked, e)
	}
	e.alone = true
	m.look(e)
}

func (m *machine) unpark(e *entry) {
	if e.refused != nil && e.refused.index >= 0 {
		heap.Remove(&m.parked, e.refused.index)
	}
}
