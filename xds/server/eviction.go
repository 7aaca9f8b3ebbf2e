package server

import (
	"slices"
	"time"
)

// eviction bounds how many resources of the on-demand type a node holds. The node alone decides
// what it asks for, as clients come, and Envoy's own cache has no bound.
//
// Source: Envoy's on-demand certificate selector drops a secret that is removed, and unsubscribes.
// The next handshake asks for it again.
type eviction struct {
	// order holds the entries that the node holds, in the order in which they were first sent.
	// Some have gone since.
	order     []*entry
	orderGone int // how many of order have gone
	// awaited holds the entries that were called absent, in order. The node may still be
	// subscribed to them.
	awaited     []calledAbsent
	awaitedGone int       // about how many of awaited have gone
	next        time.Time // no eviction happens before
}

// calledAbsent is an entry that was called absent at a time, to see what the node does then.
type calledAbsent struct {
	e  *entry
	at time.Time
}

// hold notes that e was sent to the node.
func (t *eviction) hold(e *entry) {
	e.evicted = false
	if !e.held && !e.pinned {
		e.held = true
		t.order = append(t.order, e)
	}
}

// count returns how many entries the node holds and eviction may take.
func (t *eviction) count() int { return len(t.order) - t.orderGone }

// dropped notes that the node unsubscribed from e. It keeps the lists short, however many names
// come and go.
func (t *eviction) dropped(e *entry) {
	if e.evictedAt() != 0 {
		if t.awaitedGone++; t.awaitedGone > len(t.awaited)/2 {
			t.awaited = slices.DeleteFunc(t.awaited, func(x calledAbsent) bool { return x.e.gone })
			t.awaitedGone = 0
		}
	}
	if e.held && !e.pinned {
		t.noteGone()
	}
}

// noteGone counts one entry of order that is held no more, and shortens order when half of it is
// gone.
func (t *eviction) noteGone() {
	if t.orderGone++; t.orderGone <= len(t.order)/2 {
		return
	}
	some := make([]*entry, 0, 2*t.count())
	for _, e := range t.order {
		if !e.gone && !e.pinned {
			some = append(some, e)
		}
	}
	t.order, t.orderGone = some, 0
}

// pin has e sent again, and keeps it from eviction for ever.
func (t *eviction) pin(e *entry) {
	e.pinned, e.again = true, true
	if e.held {
		t.noteGone()
	}
}

// oldest removes the entry that was sent first from order, and returns it.
func (t *eviction) oldest() *entry {
	for len(t.order) > 0 {
		e := t.order[0]
		t.order[0] = nil
		t.order = t.order[1:]
		if !e.gone && !e.pinned {
			e.held = false
			return e
		}
		t.orderGone--
	}
	return nil
}

// evictionDue returns when evictExcess has something to do. Zero means never.
func (m *machine) evictionDue() (when time.Time) {
	t, s, l := &m.eviction, &m.groups, &m.env.limits
	if t.count() > m.env.held() {
		when = atOnce(t.next)
	}
	if len(s.full) > 0 {
		if next := atOnce(s.next); when.IsZero() || next.Before(when) {
			when = next
		}
	}
	if len(t.awaited) > 0 {
		if wait := t.awaited[0].at.Add(l.evictWait); when.IsZero() || wait.Before(when) {
			when = wait
		}
	}
	return when
}

// atOnce returns t, or the earliest time that is not zero if t is zero.
func atOnce(t time.Time) time.Time {
	if t.IsZero() {
		return time.Unix(0, 1)
	}
	return t
}

// evictExcess evicts one name if the node holds too many, and one of a group that has too many. It
// gives back the names that the node did not unsubscribe from: they belong to filter chains of
// their own, for which no client asks again.
func (m *machine) evictExcess(now time.Time) {
	t, s, l := &m.eviction, &m.groups, &m.env.limits
	for len(t.awaited) > 0 && now.Sub(t.awaited[0].at) >= l.evictWait {
		x := t.awaited[0]
		t.awaited[0].e = nil
		t.awaited = t.awaited[1:]
		if x.e.evictedAt() != x.at.UnixNano() {
			continue // it was called absent once more since
		}
		x.e.seat.evictedAt = 0
		if x.e.gone {
			t.awaitedGone--
		} else if x.e.evicted {
			t.pin(x.e)
			m.look(x.e)
		}
	}
	if !now.Before(s.next) {
		if e := s.oldest(m.env.grouped()); e != nil {
			s.next = now.Add(l.evictGap)
			m.evict(e, now)
		}
	}
	if t.count() <= m.env.held() || now.Before(t.next) {
		return
	}
	t.next = now.Add(l.evictGap)
	e := t.oldest()
	if e == nil || e.removed {
		return // it is absent by now: the node is about to unsubscribe
	}
	m.evict(e, now)
}

// evict has e, which the node holds, answered with removal.
func (m *machine) evict(e *entry, now time.Time) {
	if e.group() != nil {
		m.groups.evicted.add(e.name, m.env.limits.recentlyEvicted)
	}
	m.markEvicted(e, now)
	m.absentNames = append(m.absentNames, absentName{e.sub, e.name})
	m.env.counters.evicted.Add(1)
}

// markEvicted notes that the node is told that e is absent, although e is present.
func (m *machine) markEvicted(e *entry, now time.Time) {
	m.groups.leave(e)
	m.unpark(e)
	delete(m.waiting, e)
	e.sent, e.accepted, e.refused, e.sentAt = "", "", nil, now.UnixNano()
	e.removed, e.evicted, e.again, e.claimed, e.firstSent, e.secondDue = true, true, false, false, false, false
	e.takeSeat().evictedAt = e.sentAt
	m.eviction.awaited = append(m.eviction.awaited, calledAbsent{e, now})
}
