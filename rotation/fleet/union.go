package fleet

import (
	"maps"
	"slices"
	"time"

	"github.com/lockstep-tls/lockstep/rotation"
)

// heard is what one replica wrote of its nodes, and when.
type heard struct {
	at      time.Time
	members []rotation.Member
}

// dead returns when the replica is dead if nothing more is heard of it. That is silentFor after it
// wrote last, or after since, from when on it would have been heard. After an outage of the store
// the first replica to be back hears of nobody.
func (h heard) dead(since time.Time) time.Time { return latest(h.at, since).Add(silentFor) }

// carry makes of what was written what is known at now. The nodes of a dead replica are away since
// it was dead, as a replica that is only cut off has had them until then. Before that nobody knows
// whether a candidate has answered. Only the time of which its replica has spoken counts against
// it.
func (h heard) carry(now, since time.Time) {
	dead := h.dead(since)
	for i := range h.members {
		switch m := &h.members[i]; {
		case !m.Connected:
			m.Since = latest(m.Since, since)
		case now.After(dead):
			m.Connected, m.Since = false, dead
		case !m.Answered:
			m.Since = m.Since.Add(now.Sub(h.at))
		}
	}
}

// slot is a node id with a number. It is one node, as long as ids are unique.
type slot struct {
	node string
	nr   int
}

// union merges the rosters of all replicas by node, so that a node that moved counts once. Where
// it is connected wins over where it is away. Else the newest word wins. Two that are connected
// under one id are one that moved only if that is certain (see replaces). Else both count.
// A sum hides nobody, and is hidden by nobody, since a client may come under its name.
// Candidates hide nobody, since a client's server name can open such a stream under the name of
// any node. Each is a member of its own, unless it is superseded.
func union(lists ...heard) []rotation.Member {
	type claim struct {
		rotation.Member
		at time.Time
	}
	best := map[slot]claim{}
	var more []rotation.Member // more have the numbers of their own replica
	var candidates []claim
	for _, list := range lists {
		for _, m := range list.members {
			if m.Sum {
				more = append(more, m)
				continue
			}
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
			case !m.Connected || replaces(&newer.Member, older.at):
				best[at] = newer
			default:
				best[at] = older
				more = append(more, newer.Member)
			}
		}
	}
	answered := map[string][]*rotation.Member{}
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
	all := make([]rotation.Member, 0, len(best))
	for c := range maps.Values(best) {
		all = append(all, c.Member)
	}
	slices.SortFunc(all, byName)
	return all
}

// replaces reports whether m is what became of a stream of its id that another replica called
// connected at that time. m brought a ring along, so it was here before, and nobody has said since
// that the other stream lives.
func replaces(m *rotation.Member, at time.Time) bool { return m.Brought && !at.After(m.Since) }

// superseded reports whether the candidate does not count, since its node is connected elsewhere
// by a stream that has answered. The candidate's own stream has ended, or its replica has been
// silent since one of those came that replace it.
//
// The floor of the other stream is true of the node, whichever of the two came first. If the other
// stream came later, the node said on it what it holds. If the candidate came later, the node had
// restarted. It holds nothing, or the ring that was read after it was let in, or a later one. A
// stream that ended before has accepted none beyond that. The candidate is not forgotten. It
// counts again when the other stream is away, until its own lease ends.
func superseded(candidate rotation.Member, at time.Time, answered []*rotation.Member) bool {
	return slices.ContainsFunc(answered, func(m *rotation.Member) bool {
		return !candidate.Connected || replaces(m, at)
	})
}
