package server

import "time"

// turnover bounds what a node holds of a type on demand. It alone decides what it asks for, as clients come, and Envoy's own cache has no bound.
//
// Source: Envoy's on-demand certificate selector drops a secret that is removed, and unsubscribes; the next handshake asks for it again.
type turnover struct {
	order []*entry  // what is held, in the order in which it was first sent; some have gone since
	left  int       // how many of them have
	told  []told    // evicted, in order, and perhaps still subscribed
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

// dropped notes that the node unsubscribed.
func (t *turnover) dropped(e *entry) {
	if !e.held {
		return
	}
	if t.left++; t.left <= len(t.order)/2 {
		return
	}
	some := make([]*entry, 0, 2*t.count())
	for _, e := range t.order {
		if !e.gone {
			some = append(some, e)
		}
	}
	t.order, t.left = some, 0
}

// oldest takes the entry that was sent first.
func (t *turnover) oldest() *entry {
	for len(t.order) > 0 {
		e := t.order[0]
		t.order[0] = nil
		t.order = t.order[1:]
		if !e.gone {
			e.held = false
			return e
		}
		t.left--
	}
	return nil
}

// due is when turn has something to do; zero: not at all.
func (t *turnover) due(l limits) (when time.Time) {
	if t.count() > l.held {
		when = t.next
		if when.IsZero() {
			when = time.Unix(0, 1) // at once
		}
	}
	if len(t.told) > 0 {
		if wait := t.told[0].at.Add(l.evictWait); when.IsZero() || wait.Before(when) {
			when = wait
		}
	}
	return when
}

// turn evicts one name if there are too many, and gives back what the node did not let go of: an eager chain's, that has no client to ask again.
func (m *machine) turn(now time.Time) {
	t, l := &m.turnover, &m.env.limits
	for len(t.told) > 0 && now.Sub(t.told[0].at) >= l.evictWait {
		e := t.told[0].e
		t.told[0].e = nil
		t.told = t.told[1:]
		if e.evicted && !e.gone {
			e.pinned, e.again = true, true
			m.look(e)
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
	m.unpark(e)
	e.sent, e.accepted, e.refused, e.sentAt = "", "", nil, now.UnixNano()
	e.removed, e.evicted = true, true
	m.refused = append(m.refused, answer{e.sub, e.name})
	t.told = append(t.told, told{e, now})
	m.env.counters.evicted.Add(1)
}
