package server

import (
	"container/list"
	"hash/maphash"
	"time"
)

// groups bound how many names of one group a node holds on demand ([xds.Resource.Group]). One
// wildcard covers all names of a group, so strangers can invent them without end.
//
// A group that is full takes new names at the pace at which its oldest are evicted, and refuses
// the others. A name that was evicted is taken back whenever it is asked for: otherwise strangers
// could keep out a host that clients use. It was evicted once for each time that it comes back, so
// the pace is the same.
type groups struct {
	all     map[string]*group
	full    []*group    // the groups that may hold too many, each once
	next    time.Time   // no eviction happens before
	evicted recentNames // names that were evicted lately, of all groups
}

type group struct {
	name   string
	names  list.List // of *entry, in the order in which they were admitted
	queued bool      // reports whether the group is in groups.full
}

// admit reports whether e may be sent, and gives it a place in its group. name is the group of its
// resource now, or empty if it has none.
func (m *machine) admit(e *entry, name string) bool {
	if g := e.group(); g != nil && g.name == name {
		return true
	}
	s, l := &m.groups, &m.env.limits
	s.leave(e)
	// An evicted entry is about to be unsubscribed from.
	if name == "" || e.pinned || e.evicted && !e.again {
		return true
	}
	g := s.all[name]
	if g == nil {
		g = &group{name: name}
		if s.all == nil {
			s.all = map[string]*group{}
		}
		s.all[name] = g
	}
	n, most := g.names.Len(), m.env.grouped()
	back := n < 2*most && s.evicted.take(e.name)
	// What the node claims it holds anyway, and it is evicted in its turn.
	if !(n < most+l.groupSlack || back || e.claimed) {
		return false
	}
	seat := e.takeSeat()
	seat.group, seat.place = g, g.names.PushBack(e)
	if n >= most && !g.queued {
		g.queued = true
		s.full = append(s.full, g)
	}
	return true
}

// leave takes e out of its group, if it is in one.
func (s *groups) leave(e *entry) {
	g := e.group()
	if g == nil {
		return
	}
	g.names.Remove(e.seat.place)
	e.seat.group, e.seat.place = nil, nil
	if g.names.Len() == 0 {
		delete(s.all, g.name)
	}
}

// regroup queues the groups that hold more than the bound, which may have become lower.
func (m *machine) regroup() {
	s := &m.groups
	for _, g := range s.all {
		if g.names.Len() > m.env.grouped() && !g.queued {
			g.queued = true
			s.full = append(s.full, g)
		}
	}
}

// oldest returns the entry to be evicted next, or nil if no group holds more than limit. Groups
// take turns.
func (s *groups) oldest(limit int) *entry {
	for len(s.full) > 0 {
		g := s.full[0]
		s.full[0] = nil
		s.full = s.full[1:]
		if g.names.Len() > limit {
			s.full = append(s.full, g)
			return g.names.Front().Value.(*entry)
		}
		g.queued = false
	}
	s.full = nil
	return nil
}

// recentNames remembers the names that were added last. It keeps 8 bytes of each.
type recentNames struct {
	seed maphash.Seed
	slot map[uint64]int
	ring []uint64 // hashes in the order of addition; a taken one stays until its turn
	next int
}

// add remembers name, and forgets the oldest if there are more than most.
func (r *recentNames) add(name string, most int) {
	if r.slot == nil {
		r.seed, r.slot = maphash.MakeSeed(), map[uint64]int{}
	}
	h := maphash.String(r.seed, name)
	if len(r.ring) < most {
		r.ring = append(r.ring, h)
		r.slot[h] = len(r.ring) - 1
		return
	}
	old := r.ring[r.next]
	if slot, ok := r.slot[old]; ok && slot == r.next {
		delete(r.slot, old)
	}
	r.ring[r.next], r.slot[h] = h, r.next
	r.next = (r.next + 1) % most
}

// take reports whether name is remembered, and forgets it.
func (r *recentNames) take(name string) bool {
	if len(r.slot) == 0 {
		return false
	}
	h := maphash.String(r.seed, name)
	_, ok := r.slot[h]
	delete(r.slot, h)
	return ok
}
