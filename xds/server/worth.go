package server

import (
	"bytes"
	"time"

	"github.com/lockstep-tls/lockstep/xds"
)

// A node that keeps what it refuses (see [xds.Varying]) is offered a content in bytes that differ from
// those that it was delivered last: only then does its ACK say that it uses them. Where it is not known
// what was delivered last, two encodings are sent one after the other. The answer to the second counts,
// since the first lies between. So it is with every name in the first request of a stream, unless the
// node brings along a version that is believed.

// encoding returns r in the encoding in which e is to be sent it, and whether an ACK of it counts.
func (e *entry) encoding(r *xds.Resource, content string) (_ *xds.Resource, counts bool) {
	switch {
	case e.unknown:
		return xds.Encoded(e.sub.vary, r, 2, false), false
	case e.accepted != content && e.body != nil && (e.body == r.Body || bytes.Equal(e.body.Value, r.Body.GetValue())):
		return xds.Encoded(e.sub.vary, r, 1, true), true
	}
	return r, true
}

// doubt notes that it is not known what e was delivered last.
func (e *entry) doubt() {
	e.unknown, e.half, e.second = e.sub.vary != nil, false, false
}

// treat sends the next remedy for what the node refused.
func (f *flusher) treat(e *entry) {
	ref, m := e.refused, f.m
	r, how := e.sub.vary.Cure(m.node, e.name, ref.version, e.accepted, ref.try)
	e.alone = true
	switch {
	case how == xds.Replace:
		ref.stage = treated
		f.offer(e, r, true)
	case how == xds.Remove && !m.sotw:
		ref.stage = treated
		f.withdraw(e)
		m.leaving = append(m.leaving, told{e, f.now})
	case how == xds.Remove:
		ref.try++
		f.treat(e)
	case how == xds.Hopeless:
		// What ails the node may be something else, which is mended without our knowledge. What it keeps then
		// is to be what it should have, and no remedy: so that is offered once more, and then seldom.
		ref.stage, ref.wait = stuck, m.env.limits.retryMax
		m.letPass(e)
		m.emit(e, xds.Stuck, ref.version, ref.words, f.now)
		e.again = true
		m.look(e)
	default:
		ref.stage = refusing
		m.park(e, f.now.Add(ref.wait))
	}
}

// standIn sends r, which takes the place of a resource that there is not. A node that holds something
// good keeps it. Where clients choose the names, a removal comes first: a client's handshake ends, and
// the node lets go of the name. What it does not let go of is a filter chain's own.
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
	case e.sub.demand && !f.m.node.Eager && !e.left:
		e.left = true
		f.withdraw(e)
		f.m.leaving = append(f.m.leaving, told{e, f.now})
	case e.removed && f.now.UnixNano()-e.sentAt < int64(f.m.env.limits.leaveWait):
	default:
		f.offer(e, r, false)
	}
}

// stayed looks again at the names that were removed, and that nodes did not let go of.
func (m *machine) stayed(now time.Time) {
	for len(m.leaving) > 0 && now.Sub(m.leaving[0].at) >= m.env.limits.leaveWait {
		e := m.leaving[0].e
		m.leaving[0].e = nil
		if m.leaving = m.leaving[1:]; e.gone {
			continue
		}
		if e.refused != nil && e.refused.stage == treated {
			e.refused.try++
			e.refused.stage = ill
		}
		m.look(e)
	}
}

// recover notes that the node took a remedy.
func (m *machine) recover(it item, now time.Time) {
	e := it.e
	if e.removed {
		return
	}
	if !e.isTreatedWith(it) { // it has taken something else meanwhile
		if !it.standIn {
			m.accept(e, it.version, now)
		}
		m.look(e)
		return
	}
	e.refused.stage = cured
	e.alone, e.doubted = false, false
	if e.accepted = it.version; it.standIn {
		e.accepted = ""
	}
	m.letPass(e)
	m.emit(e, xds.Cured, it.version, "", now)
	m.look(e) // the content may be another one by now
}

// leavesIll reports whether content of e, which names others, leaves out one that the node refused and is being cured of. The
// node goes on using what it refused for as long as it drains what named it, so the cure comes first.
func (f *flusher) leavesIll(e *entry, content string) bool {
	refers, ok := e.sub.src.(xds.Referring)
	if !ok || e.accepted == "" || e.accepted == content {
		return false
	}
	for _, name := range refers.Brings(content, e.accepted) {
		for _, sub := range f.m.subs {
			if other := sub.names[name]; sub != e.sub && other != nil && other.isBeingCured() {
				other.holdsUp = true
				return true
			}
		}
	}
	return false
}

func (e *entry) isBeingCured() bool {
	return e.refused != nil && (e.refused.stage == ill || e.refused.stage == treated)
}

// letPass looks again at what had to wait until e was cured, or was found to have no cure.
func (m *machine) letPass(e *entry) {
	if !e.holdsUp || e.isBeingCured() && !e.gone {
		return
	}
	e.holdsUp = false
	for _, sub := range m.subs {
		if _, refers := sub.src.(xds.Referring); refers {
			for _, other := range sub.names {
				m.look(other)
			}
		}
	}
}

// isTreatedWith reports whether it is the remedy that was sent last.
func (e *entry) isTreatedWith(it item) bool {
	return e.refused != nil && e.refused.stage == treated && e.sent == it.version
}

// refuseRemedy notes that a remedy did not help.
func (m *machine) refuseRemedy(it item, words string) {
	e := it.e
	if e.accepted == it.version {
		e.accepted, e.doubted = "", true // an ACK of the same bytes would say nothing now
	}
	if !e.isTreatedWith(it) {
		return
	}
	e.refused.words = words
	e.refused.try++
	e.refused.stage = ill
	e.sent = "" // if it is what the node should have by now, it is offered as such
	m.look(e)
}

// renew offers again, in other bytes, what e holds: it is in doubt whether the node uses it.
func (m *machine) renew(e *entry) {
	switch ref := e.refused; {
	case e.gone || e.removed || e.sent == "":
		return
	case ref != nil && ref.stage == refusing:
		m.unpark(e)
	case ref != nil || e.sub.vary == nil:
		return // a remedy is on its way, or was taken; or there is no doubt
	}
	if e.sub.vary != nil {
		e.doubted = e.doubted || e.accepted != ""
		if e.accepted = ""; e.body == nil {
			e.doubt()
		}
	}
	e.again, e.alone = true, true
	m.look(e)
}

// Renew has the streams that match chooses offer again, each alone and in other bytes, what they were
// sent under the names that name chooses. Until the node has accepted that, it counts as sent. Names
// that the node refused are offered again at once. It returns how many names that are.
func (s *Server) Renew(match func(xds.Node) bool, typeURL string, name func(string) bool) (n int) {
	for _, st := range s.all() {
		_ = st.do(func(now time.Time) ([]*response, error) { // its error has ended the stream already
			if st.m.node.ID == "" || !match(st.m.node) {
				return nil, nil
			}
			for _, sub := range st.m.subs {
				if sub.typeURL != typeURL {
					continue
				}
				for _, e := range sub.names {
					if name(e.name) {
						st.m.renew(e)
						n++
					}
				}
			}
			return st.m.flush(now), nil
		})
	}
	return n
}
