package server

import (
	"slices"
	"time"
)

// turnover bounds what a node holds of a type on demand. It alone decides what it asks for, as clients come, and Envoy's own cache has no bound.
//
// Source: Envoy's on-demand certificate selector drops a secret that is removed, and unsubscribes; the next handshake asks for it again.
type turnover struct {
	order []*entry  // what is held, in the order in which it was first sent; some have gone since
	left  int       // how many of them have
	told  []told    // evicted or refused, in order, and perhaps still subscribed
	over  int       // how many of those are not, about
	next  time.Time // no eviction before
}

type told struct {
	e  *entry
	at time.Time
}

// hold notes that e is sent.
func (t *turnover) hold(e *entry) {
	e.evicted = false
	if !e.held && !e.pinned {
		e.held = true
		t.order = append(t.order, e)
	}
}

func (t *turnover) count() int { return len(t.order) - t.left }

// dropped notes that the node unsubscribed. However many come and go, the lists stay short.
func (t *turnover) dropped(e *entry) {
	if e.toldAt != 0 {
		if t.over++; t.over > len(t.told)/2 {
			t.told = slices.DeleteFunc(t.told, func(x told) bool { return x.e.gone })
			t.over = 0
		}
	}
	if e.held && !e.pinned {
		t.leave()
	}
}

// leave: one of order is held no more.
func (t *turnover) leave() {
	if t.left++; t.left <= len(t.order)/2 {
		return
	}
	some := make([]*entry, 0, 2*t.count())
	for _, e := range t.order {
		if !e.gone && !e.pinned {
			some = append(some, e)
		}
	}
	t.order, t.left = some, 0
}

// pin has e sent again, and never evicted.
func (t *turnover) pin(e *entry) {
	e.pinned, e.again = true, true
	if e.held {
		t.leave()
	}
}

// oldest takes the entry that was sent first.
func (t *turnover) oldest() *entry {
	for len(t.order) > 0 {
		e := t.order[0]
		t.order[0] = nil
		t.order = t.order[1:]
		if !e.gone && !e.pinned {
			e.held = false
			return e
		}
		t.left--
	}
	return nil
}

// turnDue is when turn has something to do; zero: not at all.
func (m *machine) turnDue() (when time.Time) {
	t, s, l := &m.turnover, &m.groups, &m.env.limits
	if t.count() > l.held {
		when = atOnce(t.next)
	}
	if len(s.full) > 0 {
		if next := atOnce(s.next); when.IsZero() || next.Before(when) {
			when = next
		}
	}
	if len(t.told) > 0 {
		if wait := t.told[0].at.Add(l.evictWait); when.IsZero() || wait.Before(when) {
			when = wait
		}
	}
	return when
}

func atOnce(t time.Time) time.Time {
	if t.IsZero() {
		return time.Unix(0, 1)
	}
	return t
}

// turn evicts one name if there are too many, and one of too many of a group, and gives back what the node did not let go of: an eager chain's, that has no client to
// ask again.
func (m *machine) turn(now time.Time) {
	t, s, l := &m.turnover, &m.groups, &m.env.limits
	for len(t.told) > 0 && now.Sub(t.told[0].at) >= l.evictWait {
		x := t.told[0]
		t.told[0].e = nil
		t.told = t.told[1:]
		if x.e.toldAt != x.at.UnixNano() {
			continue // it was told again since
		}
		x.e.toldAt = 0
		if x.e.gone {
			t.over--
		} else if x.e.evicted {
			t.pin(x.e)
			m.look(x.e)
		}
	}
	if !now.Before(s.next) {
		if e := s.oldest(l.grouped); e != nil {
			s.next = now.Add(l.evictGap)
			m.evict(e, now)
		}
	}
	if t.count() <= l.held || now.Before(t.next) {
		return
	}
	t.next = now.Add(l.evictGap)
	e := t.oldest()
	if e == nil || e.removed {
		return // absent by now: the node is about to unsubscribe
	}
	m.evict(e, now)
}

// evict has e removed, which the node has.
func (m *machine) evict(e *entry, now time.Time) {
	if e.group != nil {
		m.groups.ghost.add(e.name, m.env.limits.ghosts)
	}
	m.absent(e, now)
	m.refused = append(m.refused, answer{e.sub, e.name})
	m.env.counters.evicted.Add(1)
}

// absent notes that the node is told that e is absent, although it is not.
func (m *machine) absent(e *entry, now time.Time) {
	m.groups.leave(e)
	m.unpark(e)
	e.sent, e.accepted, e.refused, e.sentAt = "", "", nil, now.UnixNano()
	e.removed, e.evicted, e.again, e.claimed, e.half, e.second = true, true, false, false, false, false
	e.toldAt = e.sentAt
	m.turnover.told = append(m.turnover.told, told{e, now})
}
