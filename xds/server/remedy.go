package server

import (
	"time"

	"github.com/lockstep-tls/lockstep/xds"
)

// sendRemedy sends the next remedy for what the node refused.
func (f *flusher) sendRemedy(e *entry) {
	ref, m := e.refused, f.m
	r, how := e.sub.vary.Cure(m.node, e.name, ref.version, e.accepted, ref.try)
	e.alone = true
	switch {
	case how == xds.Replace:
		ref.stage = remedySent
		f.offer(e, r, true)
	case how == xds.Remove && !m.sotw:
		ref.stage = remedySent
		f.withdraw(e)
		m.withdrawn = append(m.withdrawn, calledAbsent{e, f.now})
	case how == xds.Remove:
		ref.try++
		f.sendRemedy(e)
	case how == xds.Hopeless:
		// The cause may be something else, which is repaired without our knowledge. What the node
		// keeps then must be what it should have, and not a remedy. So that is offered once more,
		// and then seldom.
		ref.stage, ref.wait = stuck, m.env.limits.retryMax
		m.unblock(e)
		m.emit(e, xds.Stuck, ref.version, ref.words, f.now)
		e.again = true
		m.look(e)
	default:
		ref.stage = refusing
		m.park(e, f.now.Add(ref.wait))
	}
}

// standIn sends r, which takes the place of a resource that does not exist. A node that holds
// something good keeps it. Where clients choose the names, a removal comes first: a client's
// handshake ends, and the node unsubscribes. A name from which it does not unsubscribe belongs to
// a filter chain of its own.
func (f *flusher) standIn(e *entry, r *xds.Resource, again bool) {
	content, _ := xds.Content(r.Version)
	if e.claimed {
		claim, believed := xds.Content(e.sent)
		e.claimed = false
		if e.sent = claim; believed && claim != content {
			e.accepted = claim
		}
	}
	switch {
	case e.accepted != "" || e.sent == content && !again:
	case e.sub.demand && !f.m.node.Eager && !e.withdrawn:
		e.withdrawn = true
		f.withdraw(e)
		f.m.withdrawn = append(f.m.withdrawn, calledAbsent{e, f.now})
	case e.removed && f.now.UnixNano()-e.sentAt < int64(f.m.env.limits.leaveWait):
	default:
		f.offer(e, r, false)
	}
}

// recheckWithdrawn looks again at the names that were removed, and from which nodes did not
// unsubscribe.
func (m *machine) recheckWithdrawn(now time.Time) {
	for len(m.withdrawn) > 0 && now.Sub(m.withdrawn[0].at) >= m.env.limits.leaveWait {
		e := m.withdrawn[0].e
		m.withdrawn[0].e = nil
		if m.withdrawn = m.withdrawn[1:]; e.gone {
			continue
		}
		if e.refused != nil && e.refused.stage == remedySent {
			e.refused.try++
			e.refused.stage = remedyDue
		}
		m.look(e)
	}
}

// acceptRemedy notes that the node took a remedy.
func (m *machine) acceptRemedy(it item, now time.Time) {
	e := it.e
	if e.removed {
		return
	}
	if !e.awaitsRemedy(it) { // the node has taken something else meanwhile
		if !it.standIn {
			m.accept(e, it.version, now)
		}
		m.look(e)
		return
	}
	e.refused.stage = cured
	e.alone, e.inDoubt = false, false
	if e.accepted = it.version; it.standIn {
		e.accepted = ""
	}
	m.unblock(e)
	m.emit(e, xds.Cured, it.version, "", now)
	m.look(e) // the content may have changed
}

// dropsUncured reports whether content of e, which names other resources, leaves out one that the
// node refused and is being cured of. The node would go on using what it refused while it drains
// what named it, so the cure comes first.
func (f *flusher) dropsUncured(e *entry, content string) bool {
	refers, ok := e.sub.src.(xds.Referring)
	if !ok || e.accepted == "" || e.accepted == content {
		return false
	}
	for _, name := range refers.Brings(content, e.accepted) {
		for _, sub := range f.m.subs {
			if other := sub.names[name]; sub != e.sub && other != nil && other.isBeingCured() {
				other.blocks = true
				return true
			}
		}
	}
	return false
}

// isBeingCured reports whether a remedy is due or was sent.
func (e *entry) isBeingCured() bool {
	return e.refused != nil && (e.refused.stage == remedyDue || e.refused.stage == remedySent)
}

// unblock looks again at what had to wait until e was cured, or was found to have no cure.
func (m *machine) unblock(e *entry) {
	if !e.blocks || e.isBeingCured() && !e.gone {
		return
	}
	e.blocks = false
	for _, sub := range m.subs {
		if _, refers := sub.src.(xds.Referring); refers {
			for _, other := range sub.names {
				m.look(other)
			}
		}
	}
}

// awaitsRemedy reports whether it is the remedy that was sent last.
func (e *entry) awaitsRemedy(it item) bool {
	return e.refused != nil && e.refused.stage == remedySent && e.sent == it.version
}

// refuseRemedy notes that a remedy did not help.
func (m *machine) refuseRemedy(it item, words string) {
	e := it.e
	if e.accepted == it.version {
		e.accepted, e.inDoubt = "", true // Envoy would ACK the same bytes without looking at them
	}
	if !e.awaitsRemedy(it) {
		return
	}
	e.refused.words = words
	e.refused.try++
	e.refused.stage = remedyDue
	e.sent = "" // if this is what the node should have by now, it is offered as such
	m.look(e)
}
