package rotation

import (
	"fmt"
	"slices"
	"time"
)

// Member is a node as the decision sees it: one that accepted a ring, or one that was sent its first and has not answered.
type Member struct {
	Node      string    // the node id
	Nr        int       // 1; a second stream under the same id is number 2, and so on
	Floor     uint64    // the lowest generation that it may be holding
	Answered  bool      // it accepted a ring; until then it is a candidate
	Connected bool      // else away
	Brought   bool      // it said, when it came, which ring it holds: it was here before
	Since     time.Time // connected or away since, a candidate: let in; of another replica's candidate, so long before now as it was when that replica spoke
	Refused   uint64    // the generation that it refused last and has not got over; 0: none
	Words     string    // its reason
	Stuck     bool      // nothing that can be sent makes it take a ring: it must be restarted
	Stream    uint64    // the stream by which it is connected to this replica; 0: none
}

// Name is the node id, with "#2" and so on behind it for a further stream under the same id.
func (m Member) Name() string {
	if m.Nr <= 1 {
		return m.Node
	}
	return fmt.Sprintf("%s#%d", m.Node, m.Nr)
}

// Live: connected, or away for less than the lease. A candidate counts for a lease: until then its first answer may still come, and a
// stream that has accepted nothing by then is no member.
func (m *Member) Live(p Policy, now time.Time) bool {
	return m.Connected && m.Answered || now.Sub(m.Since) < p.NodeLease
}

// Tally is what is known of a scope's nodes at one moment: the union of all replicas' rosters.
type Tally struct {
	Members []Member
	Highest uint64    // the highest generation that was handed out although this replica had never read it; 0: none
	Proved  time.Time // since when Highest is known to be beyond the stored ring; zero: it is not, or always was
	Reached time.Time // since when this replica knows that the phase waits for nobody; zero: it waits, or has just been seen not to
	Waited  []string  // whom the phase waited for at the last look; only told, never decided on
}

// Count sums a tally up. A node counts once, under the first of: excluded, away, refused, accepted, stale.
type Count struct {
	Live     int `json:"live"`     // connected, or away within the lease
	Accepted int `json:"accepted"` // hold the current ring
	Refused  int `json:"refused"`
	Stale    int `json:"stale"` // connected without the current ring
	Away     int `json:"away"`
	Excluded int `json:"excluded"`
}

// Count counts the members of t.
func (r Rollout) Count(p Policy, t Tally, now time.Time) (c Count) {
	for i := range t.Members {
		m := &t.Members[i]
		if !m.Live(p, now) {
			continue
		}
		c.Live++
		switch {
		case r.excluded(m, now):
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

func (r Rollout) excluded(m *Member, now time.Time) bool {
	return now.Before(r.Excluded[m.Node])
}

// behind returns the live members that may still be holding a generation before floor and are waited for.
// They are t's own: at a push the whole fleet is behind.
func (r Rollout) behind(floor uint64, p Policy, t Tally, now time.Time) (late []*Member, waited int) {
	for i := range t.Members {
		m := &t.Members[i]
		if !m.Live(p, now) || r.excluded(m, now) {
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

// target is the generation that every live member must have reached before the phase ends; 0 in the steady phase.
func (r Rollout) target() uint64 {
	switch r.Phase {
	case Distributing:
		return r.Keys[r.next()].Added
	case Promoting:
		return r.Keys[0].Promoted
	case Burning:
		return r.Keys[0].Added
	}
	return 0
}

// waiting returns whom the phase waits for. In Burning that is everybody on the roster, the excluded included: a burnt key is nobody's exception.
func (r Rollout) waiting(p Policy, t Tally, now time.Time) (late []*Member, waited int) {
	if r.Phase == Burning {
		r.Excluded = nil
	}
	return r.behind(r.target(), p, t, now)
}

// BlockedBy says in words what keeps the rollout from going on, by node; nil if nothing does.
func (r Rollout) BlockedBy(p Policy, t Tally, now time.Time) (why []string) {
	if now.Before(r.Hold) {
		why = append(why, fmt.Sprintf("the store had lost its content: the other replicas and their nodes are waited for, %s more", r.Hold.Sub(now).Round(time.Second)))
	}
	late, _ := r.waiting(p, t, now)
	for _, m := range late {
		why = append(why, r.excuse(*m, p, now))
	}
	slices.Sort(why)
	why = some(why)
	if r.Phase == Burning && len(late) == 0 {
		why = append(why, fmt.Sprintf("every node has accepted; connections that were accepted before may go on with a burnt key for %s", FinishWithin))
	}
	if r.Phase == Steady && r.due(p, now) {
		if now.Before(r.RetryAt) {
			for name, f := range r.Refusers {
				why = append(why, fmt.Sprintf("%s: refused the new key, which was taken back: %s", name, f.Words))
			}
			slices.Sort(why)
			why = append(why, fmt.Sprintf("the next try is in %s", r.RetryAt.Sub(now).Round(time.Second)))
		} else if r.full() {
			why = append(why, fmt.Sprintf("the ring is full (%d keys drain): wait for the oldest to retire, or lengthen period", len(r.Keys)-1))
		}
	}
	return why
}

// Stuck says in words which nodes the phase waits for that must be restarted, by node; nil if there is none. Such a node has
// refused a ring of this phase, and nothing that can be sent helps it. only is true if the phase waits for nothing else.
func (r Rollout) Stuck(p Policy, t Tally, now time.Time) (why []string, only bool) {
	late, _ := r.waiting(p, t, now)
	for _, m := range late {
		if m.Stuck && m.Connected && m.Refused >= r.target() {
			why = append(why, r.excuse(*m, p, now))
		}
	}
	only = len(why) > 0 && len(why) == len(late) && !now.Before(r.Hold)
	slices.Sort(why)
	return some(why), only
}

// excuse says in words why m is waited for.
func (r Rollout) excuse(m Member, p Policy, now time.Time) string {
	ago := now.Sub(m.Since).Round(100 * time.Millisecond)
	holds := fmt.Sprintf("may hold g%d", m.Floor)
	if r.Phase == Burning {
		holds += " and take a burnt key"
	}
	switch {
	case !m.Connected:
		return fmt.Sprintf("%s: away for %s, its lease ends in %s; %s", m.Name(), ago, (p.NodeLease - now.Sub(m.Since)).Round(time.Second), holds)
	case m.Stuck:
		return fmt.Sprintf("%s: refused g%d, and nothing helps: restart this Envoy; it %s: %s", m.Name(), m.Refused, holds, m.Words)
	case m.Refused != 0:
		return fmt.Sprintf("%s: refused g%d, %s: %s", m.Name(), m.Refused, holds, m.Words)
	case !m.Answered:
		return fmt.Sprintf("%s: has not answered its first ring for %s", m.Name(), ago) // of another replica's: as far as that has said
	}
	return fmt.Sprintf("%s: has not accepted g%d for %s; %s", m.Name(), r.target(), now.Sub(r.Since).Round(100*time.Millisecond), holds)
}
