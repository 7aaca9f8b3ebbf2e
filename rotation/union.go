package rotation

import (
	"maps"
	"slices"
	"time"
)

// heard is what one replica said of its nodes, and when.
type heard struct {
	at      time.Time
	members []Member
}

// dead is when the replica is dead if nothing more is heard of it: silentFor after its last word, or after listens, since when it would have been heard. After an
// outage of the store the first to be back hears of nobody.
func (h heard) dead(listens time.Time) time.Time { return latest(h.at, listens).Add(silentFor) }

// carry makes of what was said what is known at now. The nodes of a dead replica are away since it was dead: one that is only cut off has had them until then. Before that
// nobody knows whether a candidate has answered: only the time of which its replica has spoken counts against it.
func (h heard) carry(now, listens time.Time) {
	dead := h.dead(listens)
	for i := range h.members {
		switch m := &h.members[i]; {
		case !m.Connected:
			m.Since = latest(m.Since, listens)
		case now.After(dead):
			m.Connected, m.Since = false, dead
		case !m.Answered:
			m.Since = m.Since.Add(now.Sub(h.at))
		}
	}
}

// slot is a node id with a number: one node, as long as ids are unique.
type slot struct {
	node string
	nr   int
}

// union merges the rosters of all replicas by node, so that one that moved counts once: where it is connected wins over where it is away,
// then the newest word. Two that are connected under one id are one that moved only if that is certain ([replaces]); else both count.
// Candidates hide nobody: a client's SNI can open such a stream under the name of any node, so each is a member of its own, unless it is [superseded].
func union(lists ...heard) []Member {
	type claim struct {
		Member
		at time.Time
	}
	best := map[slot]claim{}
	var more []Member // their numbers are those of their own replica
	var candidates []claim
	for _, list := range lists {
		for _, m := range list.members {
			if !m.Answered {
				candidates = append(candidates, claim{m, list.at})
				continue
			}
			at := slot{m.Node, m.Nr}
			have, ok := best[at]
			older, newer := have, claim{m, list.at}
			if m.Since.Before(have.Since) || m.Since.Equal(have.Since) && m.Floor > have.Floor {
				older, newer = newer, older
			}
			switch {
			case !ok:
				best[at] = newer
			case m.Connected != have.Connected:
				if m.Connected {
					best[at] = claim{m, list.at}
				}
			case !m.Connected || newer.replaces(older.at):
				best[at] = newer
			default:
				best[at] = older
				more = append(more, newer.Member)
			}
		}
	}
	answered := map[string][]*Member{}
	for at, c := range best {
		if len(candidates) > 0 && c.Connected {
			answered[at.node] = append(answered[at.node], &c.Member)
		}
	}
	for _, c := range candidates {
		if !superseded(c.Member, c.at, answered[c.Node]) {
			more = append(more, c.Member)
		}
	}
	for _, m := range more {
		for best[slot{m.Node, m.Nr}].Nr != 0 {
			m.Nr++
		}
		best[slot{m.Node, m.Nr}] = claim{Member: m}
	}
	all := make([]Member, 0, len(best))
	for c := range maps.Values(best) {
		all = append(all, c.Member)
	}
	slices.SortFunc(all, byName)
	return all
}

// replaces: m is what became of a stream of its id that another replica called connected at that time. It brought a ring along, so it was here
// before, and nobody has said since that the other stream lives.
func (m *Member) replaces(at time.Time) bool { return m.Brought && !at.After(m.Since) }

// superseded: the candidate's stream has ended, or its replica has been silent since one of those came that replace it, and its node is connected elsewhere
// by a stream that has answered. The floor of that one is true of the node, whichever of the two came first. If that one came later, the node said on it what
// it holds. If the candidate did, the node had restarted: it holds nothing, or the ring that was read after it was let in, or a later one, and a stream that
// ended before has accepted none beyond it. The candidate is not forgotten: it counts again when the other one is away, until its own lease ends.
func superseded(candidate Member, at time.Time, answered []*Member) bool {
	return slices.ContainsFunc(answered, func(m *Member) bool { return !candidate.Connected || m.replaces(at) })
}
