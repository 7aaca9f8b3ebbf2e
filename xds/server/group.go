package server

import (
	"container/list"
	"hash/maphash"
	"time"
)

// groups bound what a node holds on demand of each group of names ([xds.Resource.Group]): one wildcard covers them, so strangers can invent them without end.
//
// A group that is full takes new names at the pace at which its oldest are evicted, and refuses what comes beyond that. A name that was evicted comes back whenever it
// is asked for: else a stranger could put out a host that clients use. It was evicted once for each time that it comes back, so the pace is the same.
type groups struct {
	all   map[string]*group
	full  []*group  // that may hold too many, each once
	next  time.Time // no eviction before
	ghost lately    // evicted, out of whichever group
}

type group struct {
	name   string
	names  list.List // of *entry, in the order in which they came
	queued bool      // in groups.full
}

// admit reports whether e may be sent, whose resource is of the group name now (empty: of none), and gives it a place there.
func (m *machine) admit(e *entry, name string) bool {
	if e.group != nil && e.group.name == name {
		return true
	}
	s, l := &m.groups, &m.env.limits
	s.leave(e)
	if name == "" || e.pinned || e.evicted && !e.again { // the last is about to be unsubscribed from
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
	n := g.names.Len()
	back := n < 2*l.grouped && s.ghost.take(e.name)
	if !(n < l.grouped+l.groupOver || back || e.claimed) { // what the node holds anyway is evicted in its turn
		return false
	}
	e.group, e.place = g, g.names.PushBack(e)
	if n >= l.grouped && !g.queued {
		g.queued = true
		s.full = append(s.full, g)
	}
	return true
}

// leave takes e out of its group, if it is in one.
func (s *groups) leave(e *entry) {
	g := e.group
	if g == nil {
		return
	}
	g.names.Remove(e.place)
	e.group, e.place = nil, nil
	if g.names.Len() == 0 {
		delete(s.all, g.name)
	}
}

// oldest is the entry to be evicted next, or nil where no group holds more than limit. Groups take turns.
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

// lately remembers names, the last so many, by 8 bytes of each.
type lately struct {
	seed maphash.Seed
	slot map[uint64]int
	ring []uint64 // what was taken stays in it until its turn
	next int
}

func (r *lately) add(name string, most int) {
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
func (r *lately) take(name string) bool {
	if len(r.slot) == 0 {
		return false
	}
	h := maphash.String(r.seed, name)
	_, ok := r.slot[h]
	delete(r.slot, h)
	return ok
}
