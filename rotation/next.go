package rotation

import (
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/lockstep-tls/lockstep/keysource"
)

// Next decides what a scope's rollout does now, and reports whether that is a change. It is pure:
// fresh makes keys, and now is by the store's clock.
//
// Next takes the steps that are open up to the next ring, and no further. A node that joins unseen
// while that ring is stored gets the ring before it, and that must be safe. So the rosters are
// read again between two rings. Call Next until nothing changes.
func (r Rollout) Next(p Policy, t Tally, now time.Time, fresh func() keysource.TicketKey) (Rollout, bool) {
	n := r.clone()
	// This comes before a step says of a key that nobody encrypts with it any more.
	changed := n.noteLifetimes(p)
	for n.Generation == r.Generation && n.step(p, t, now, fresh) {
		changed = true
	}
	changed = n.noteLifetimes(p) || changed
	return n, changed
}

// step does the first thing that is due, and reports whether it changed r. A step makes itself
// impossible, so that Next ends.
func (r *Rollout) step(p Policy, t Tally, now time.Time, fresh func() keysource.TicketKey) bool {
	switch {
	case len(r.Keys) == 0:
		r.begin(fresh(), now)
	case r.restoredBelow(t):
		return r.burnRestored(t, fresh, now)
	case t.Highest > r.Generation:
		r.doubtKeys(t.Highest)
		r.rebase(t.Highest, now)
	case now.Before(r.Hold):
		return false
	case r.endExclusions(now):
	case r.noteUnused(p, t, now):
	case r.retire(p, now):
	case r.Phase == Steady:
		return r.distribute(p, now, fresh)
	case r.Phase == Distributing && r.takeBack(p, t, now):
	default:
		return r.advance(p, t, now)
	}
	return true
}

// begin gives a new scope its first key. It encrypts at once, since nobody holds another.
func (r *Rollout) begin(k keysource.TicketKey, now time.Time) {
	r.add(k, now)
	r.Keys[0].Promoted, r.Keys[0].FirstUsed = r.Generation, now
	r.enter(Steady, now)
	r.log(Line{At: now, What: LineDone, Key: k.ID(), By: "lockstepd", Why: "the scope is new"})
}

// rebase lifts the generation above one that was handed out and that this store never reached. The
// store has lost writes. The keys stay. Every node must accept them anew before anything is
// concluded from what it holds.
func (r *Rollout) rebase(highest uint64, now time.Time) {
	lost := r.Generation
	r.Generation = highest + 1
	for i := range r.Keys {
		k := &r.Keys[i]
		k.Added = r.Generation
		if k.Promoted != 0 {
			k.Promoted = r.Generation
		}
		if k.Demoted != 0 {
			k.Demoted, k.UnusedSince = r.Generation, time.Time{}
		}
	}
	r.log(Line{At: now, What: lineRebased, By: "lockstepd", Why: fmt.Sprintf(
		"the store has lost what was handed out as g%d; a key that was burnt since g%d may be in use again",
		highest, lost)})
}

// endExclusions forgets an exclusion that has ended.
func (r *Rollout) endExclusions(now time.Time) bool {
	for node, until := range r.Excluded {
		if !now.Before(until) {
			delete(r.Excluded, node)
			return true
		}
	}
	return false
}

// noteUnused keeps, for each draining key, since when no live member may encrypt with it. A node
// that comes back with an old ring starts the clock again. A key that is past MaxKeyAge, and has
// waited a lease for the last nodes, waits no longer. Else one refusing node would keep it alive
// for ever.
func (r *Rollout) noteUnused(p Policy, t Tally, now time.Time) bool {
	lowest := uint64(math.MaxUint64) // the lowest floor of a live member
	for i := range t.Members {
		if m := &t.Members[i]; m.Floor < lowest && m.Live(p, now) {
			lowest = m.Floor
		}
	}
	for i := range r.Keys {
		k := &r.Keys[i]
		if k.Demoted == 0 {
			continue
		}
		abandoned := now.Sub(k.FirstUsed) >= p.MaxKeyAge && now.Sub(k.DemotedAt) >= p.NodeLease
		used := !abandoned && lowest < k.Demoted
		switch {
		case used && !k.UnusedSince.IsZero():
			k.UnusedSince = time.Time{}
			return true
		case !used && k.UnusedSince.IsZero():
			k.UnusedSince = now
			return true
		}
	}
	return false
}

// retire drops a key whose last ticket has grown old.
func (r *Rollout) retire(p Policy, now time.Time) bool {
	for i, k := range r.Keys {
		if at := r.retiresAt(p, k); !at.IsZero() && !now.Before(at) {
			r.drop(i)
			r.log(Line{At: now, What: LineRetired, Key: k.Key.ID(), By: "lockstepd",
				Why: "its last ticket is older than ticket_lifetime", Took: now.Sub(k.DemotedAt)})
			return true
		}
	}
	return false
}

// rotationDue reports whether the period is over, or somebody asked.
func (r Rollout) rotationDue(p Policy, now time.Time) bool {
	return r.Wanted != nil || r.underway() || now.Sub(r.Keys[0].FirstUsed) >= p.Period
}

func (r Rollout) full() bool { return len(r.Keys) >= keysource.MaxRing }

// distribute begins a rotation, or tries again one that was taken back.
func (r *Rollout) distribute(p Policy, now time.Time, fresh func() keysource.TicketKey) bool {
	if !r.rotationDue(p, now) || now.Before(r.RetryAt) || r.full() {
		return false
	}
	by, why := "lockstepd", "the period is over"
	var k keysource.TicketKey
	if w := r.Wanted; w != nil {
		by, why = w.By, w.Why
		if w.Key != nil {
			k = *w.Key
		}
	}
	if k == (keysource.TicketKey{}) {
		k = fresh()
	}
	if !r.underway() {
		r.Begun++
		r.Tries = 0
		r.Refusers, r.Groups = nil, GroupRefusals{}
	}
	r.add(k, now)
	r.enter(Distributing, now)
	r.log(Line{At: now, What: lineDistributing, Key: k.ID(), By: by, Why: why})
	return true
}

// takeBack drops the new key again when a member refuses the ring that holds it. The key only
// decrypts so far and nobody needs it yet, so the fleet is whole again. The rotation is tried
// again later. A node that goes on refusing beyond the grace is only waited for.
func (r *Rollout) takeBack(p Policy, t Tally, now time.Time) bool {
	i := r.pendingKey()
	if p.RefuseGrace == 0 {
		return false
	}
	for j := range t.Members {
		m := &t.Members[j]
		if m.Refused < r.Keys[i].Added || !m.Live(p, now) || r.isExcluded(m, now) {
			continue
		}
		if !r.refusalCounts(m, p, now) {
			continue
		}
		r.noteRefusal(m, now)
		id := r.Keys[i].Key.ID()
		r.RetryAt = now.Add(backoff(r.Tries))
		r.Tries++
		r.drop(i)
		took := now.Sub(r.Since)
		r.enter(Steady, now)
		r.log(Line{At: now, What: lineTakenBack, Key: id, By: m.Name(), Why: m.Words, Took: took})
		return true
	}
	return false
}

// refusalCounts reports whether a refusal of m takes the new key back. It does so until the grace
// has passed since the first refusal in this rotation, by m or, if m is grouped, by anybody of its
// group. So one client with many ids takes a rotation back for no longer than one node. The
// replica to which a grouped member is connected judges it, since no other knows the group.
func (r *Rollout) refusalCounts(m *Member, p Policy, now time.Time) bool {
	if m.Grouped && m.Group == "" {
		return false
	}
	refusal, known := r.Refusers[m.Name()]
	first, others := refusal.At, len(r.Refusers)
	if m.Grouped {
		of := r.groupRefusals()
		first, known = of[m.Group]
		others = len(of)
	}
	if known {
		return now.Sub(first) < p.RefuseGrace
	}
	return others < maxRefusers
}

// groupRefusals returns the first refusals of groups in the rotation under way.
func (r *Rollout) groupRefusals() map[string]time.Time {
	if r.Groups.Rotation != r.Begun {
		return nil
	}
	return r.Groups.First
}

// noteRefusal keeps the first refusal of m, and of its group. Grouped members take at most half of
// the room for names, since names may be made up.
func (r *Rollout) noteRefusal(m *Member, now time.Time) {
	if m.Grouped {
		first := r.groupRefusals()
		if first == nil {
			first = map[string]time.Time{}
		}
		if _, known := first[m.Group]; !known {
			first[m.Group] = now
		}
		r.Groups = GroupRefusals{Rotation: r.Begun, First: first}
		if len(r.Refusers) >= maxRefusers/2 {
			return
		}
	}
	if r.Refusers == nil {
		r.Refusers = map[string]Refusal{}
	}
	if _, known := r.Refusers[m.Name()]; !known {
		r.Refusers[m.Name()] = Refusal{At: now, Words: brief(m.Words, maxReason)}
	}
}

// backoff is how long a rotation waits before it is tried again: 1 s at first, doubling up to 5
// min.
func backoff(tries int) time.Duration {
	return min(time.Second<<min(tries, 9), 5*time.Minute)
}

// advance ends the phase when every live member has reached its target, or when the others may be
// left behind.
func (r *Rollout) advance(p Policy, t Tally, now time.Time) bool {
	late, waited := r.waiting(p, t, now)
	if len(late) > 0 && !r.mayLeaveBehind(p, late, waited, now) {
		return false
	}
	if r.Phase == Burning && waited > 0 && (t.AcceptedSince.IsZero() || now.Sub(t.AcceptedSince) < finishWithin) {
		// a connection that was accepted before the acknowledgement goes on with the keys of then
		return false
	}
	line := Line{
		At: now, Nodes: waited - len(late), Took: now.Sub(r.Since), WaitedFor: t.Waited, LeftBehind: Names(late),
	}
	switch r.Phase {
	case Distributing:
		r.promote(r.pendingKey(), now)
		r.enter(Promoting, now)
		line.What = linePromoting
	case Promoting:
		r.end(now)
		line.What = LineDone
	case Burning:
		r.end(now)
		line.What = LineBurnt
	}
	line.Key = r.Keys[0].Key.ID()
	r.log(line)
	return true
}

// finishWithin is how long a handshake may go on with the keys that its node had when the
// connection was accepted. It is the transport_socket_connect_timeout of each chain that lockstep
// writes.
const finishWithin = 10 * time.Second

// end ends a rotation or burn.
func (r *Rollout) end(now time.Time) {
	r.Ended, r.Wanted, r.Refusers, r.Tries, r.RetryAt = r.Begun, nil, nil, 0, time.Time{}
	r.Groups = GroupRefusals{}
	r.enter(Steady, now)
}

// mayLeaveBehind reports whether the phase may end without the late members. A burn leaves nobody
// behind. Nobody knows for how many nodes a sum stands, so a late one has no quorum beside it.
func (r Rollout) mayLeaveBehind(p Policy, late []*Member, waited int, now time.Time) bool {
	if r.Phase == Burning {
		return false
	}
	took := now.Sub(r.Since)
	known := !slices.ContainsFunc(late, func(m *Member) bool { return m.Sum })
	if known && p.Laggard > 0 && took >= p.Laggard && float64(waited-len(late)) >= p.Quorum*float64(waited) {
		return true
	}
	// A rotation that begins late, as after a night without a control plane, still waits a lease
	// for everybody.
	return now.Sub(r.oldestUse()) >= p.MaxKeyAge && took >= p.NodeLease
}

// oldestUse returns when the key first encrypted that is to stop encrypting.
func (r Rollout) oldestUse() time.Time {
	if r.Phase == Promoting && len(r.Keys) > 1 {
		return r.Keys[1].FirstUsed
	}
	return r.Keys[0].FirstUsed
}

// Due returns the next moment at which Next may answer differently although nothing happened. It
// is zero if there is none.
func (r Rollout) Due(p Policy, t Tally, now time.Time) (due time.Time) {
	at := func(t time.Time) {
		if t.After(now) && (due.IsZero() || t.Before(due)) {
			due = t
		}
	}
	for i, k := range r.Keys {
		if i == 0 {
			at(k.FirstUsed.Add(p.Period))
		}
		at(k.FirstUsed.Add(p.MaxKeyAge))
		if k.Demoted != 0 {
			at(k.DemotedAt.Add(p.NodeLease))
			at(r.retiresAt(p, k))
		}
	}
	at(r.RetryAt)
	at(t.WriteBackUntil)
	if r.Phase == Burning && !t.AcceptedSince.IsZero() {
		at(t.AcceptedSince.Add(finishWithin))
	}
	at(r.Hold)
	at(r.Since.Add(p.NodeLease))
	if p.Laggard > 0 {
		at(r.Since.Add(p.Laggard))
	}
	for _, until := range r.Excluded {
		at(until)
	}
	for i := range t.Members {
		// The time of another replica's candidate stands still until that replica speaks again.
		if m := &t.Members[i]; !m.Connected || !m.Answered && m.Stream != 0 {
			at(m.Since.Add(p.NodeLease))
		}
	}
	return due
}
