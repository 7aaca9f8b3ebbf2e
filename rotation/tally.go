package rotation

import (
	"fmt"
	"time"
)

// Member is a node as the decision sees it. It accepted a ring, or was sent its first and has not
// answered.
type Member struct {
	Node     string // Node is the node's id.
	Nr       int    // Nr is 1. A second stream under the same id is number 2, and so on.
	Floor    uint64 // Floor is the lowest generation that the node may hold.
	Answered bool   // Answered says that it accepted a ring. Until then it is a candidate.
	// Connected is false while the node is away: its stream has ended, its lease has not.
	Connected bool
	// Brought says that it named the ring that it holds when it came, so it was here before.
	Brought bool
	// Since is when it was connected, went away, or was let in as a candidate; see below.
	Since time.Time
	// Refused is the generation that it refused last and has not got over, or 0.
	Refused uint64
	Words   string // Words are its reason for the refusal.
	// Stuck says that nothing that can be sent makes it take a ring: it must be restarted.
	Stuck  bool
	Stream uint64 // Stream is the stream by which it is connected to this replica, or 0.
	// Replica is the other replica whose roster tells of it. It is empty for one of this replica.
	Replica string
	// Sum says that it stands for nodes that have no member of their own, and nobody knows for how
	// many. It is no node, whatever it is called, so it cannot be excluded.
	Sum bool

	// Grouped says that the id is not bound to whoever uses it. Others may be the same client under
	// ids that it made up. Their refusals together count as those of one node.
	Grouped bool
	// Group is whom a grouped member is counted with. It is known of this replica's own members
	// only, and empty for the others.
	Group string

	// Of another replica's candidate, Since lies as long before now as it did when that replica
	// spoke last.
}

// Name returns the node id. A further stream under the same id has "#2" and so on behind it.
func (m Member) Name() string {
	if m.Nr <= 1 {
		return m.Node
	}
	return fmt.Sprintf("%s#%d", m.Node, m.Nr)
}

// Live reports whether m is connected, or away for less than the lease. A candidate counts for a
// lease. Its first answer may still come until then. A stream that has accepted nothing by then is
// no member.
func (m *Member) Live(p Policy, now time.Time) bool {
	return m.Connected && m.Answered || now.Sub(m.Since) < p.NodeLease
}

// Tally is what is known of a scope's nodes at one moment. It is the union of all replicas'
// rosters.
type Tally struct {
	Members []Member
	// Highest is the highest generation that was handed out although this replica had never read
	// it, or 0.
	Highest uint64
	// WriteBackUntil is until when a replica that has the ring of generation Highest may write it
	// back. It matters only while Highest is beyond the stored ring.
	WriteBackUntil time.Time
	// AcceptedSince is since when the phase is known to wait for nobody. It is zero while it
	// waits.
	AcceptedSince time.Time
	// Waited names whom the phase waited for at the last look. It is only shown and decides
	// nothing.
	Waited []string
}

// Count sums a tally up. A node counts once, under the first that holds of excluded, away,
// refused, accepted and stale.
type Count struct {
	// Live counts the nodes that are connected, or away within the lease.
	Live     int `json:"live"`
	Accepted int `json:"accepted"` // Accepted counts those that hold the current ring.
	Refused  int `json:"refused"`
	Stale    int `json:"stale"` // Stale counts those that are connected without the current ring.
	Away     int `json:"away"`
	Excluded int `json:"excluded"`
}

// count counts the members of t.
func (r Rollout) count(p Policy, t Tally, now time.Time) (c Count) {
	for i := range t.Members {
		m := &t.Members[i]
		if !m.Live(p, now) {
			continue
		}
		c.Live++
		switch {
		case r.isExcluded(m, now):
			c.Excluded++
		case !m.Connected:
			c.Away++
		case m.Refused != 0:
			c.Refused++
		case m.Floor >= r.Generation && m.Answered:
			c.Accepted++
		default:
			c.Stale++
		}
	}
	return c
}

func (r Rollout) isExcluded(m *Member, now time.Time) bool {
	return !m.Sum && now.Before(r.Excluded[m.Node])
}

// below returns the live members that may hold a generation before floor and are waited for. It
// returns pointers into t, since at a push the whole fleet is behind. waited counts all live
// members that are not excluded.
func (r Rollout) below(floor uint64, p Policy, t Tally, now time.Time) (late []*Member, waited int) {
	for i := range t.Members {
		m := &t.Members[i]
		if !m.Live(p, now) || r.isExcluded(m, now) {
			continue
		}
		waited++
		if m.Floor < floor {
			if late == nil {
				late = make([]*Member, 0, len(t.Members)-i)
			}
			late = append(late, m)
		}
	}
	return late, waited
}

// Target returns the generation that every live member must have reached before the phase ends. It
// is 0 in the steady phase.
func (r Rollout) Target() uint64 {
	switch r.Phase {
	case Distributing:
		return r.Keys[r.pendingKey()].Added
	case Promoting:
		return r.Keys[0].Promoted
	case Burning:
		return r.Keys[0].Added
	}
	return 0
}

// Late returns the members for which the phase waits, as pointers into t.
func (r Rollout) Late(p Policy, t Tally, now time.Time) []*Member {
	late, _ := r.waiting(p, t, now)
	return late
}

// waiting returns the members for which the phase waits, and how many it counts on. A burn counts
// on everybody on the roster, the excluded included: a burnt key must be with nobody.
func (r Rollout) waiting(p Policy, t Tally, now time.Time) (late []*Member, waited int) {
	if r.Phase == Burning {
		r.Excluded = nil
	}
	return r.below(r.Target(), p, t, now)
}
