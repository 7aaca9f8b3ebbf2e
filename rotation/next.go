package rotation

import (
	"fmt"
	"math"
	"time"

	"github.com/lockstep-tls/lockstep/keysource"
)

// Next decides what a scope's rollout does now, and whether that is a change. It is pure: fresh makes keys, now is the store's clock.
//
// It takes the steps that are open up to the next ring, and no further: who joins unseen while that ring is stored gets the one before it, and
// that must be safe, so the rosters are read again between two rings. Call it until nothing changes.
func (r Rollout) Next(p Policy, t Tally, now time.Time, fresh func() keysource.TicketKey) (Rollout, bool) {
	n, changed := r.clone(), false
	for n.Generation == r.Generation && n.step(p, t, now, fresh) {
		changed = true
	}
	return n, changed
}

// step does the first thing that is due. Each step makes itself impossible, so that Next ends.
func (r *Rollout) step(p Policy, t Tally, now time.Time, fresh func() keysource.TicketKey) bool {
	switch {
	case len(r.Keys) == 0:
		r.begin(fresh(), now)
	case r.provenOld(t):
		return r.burnRestored(t, fresh, now)
	case t.Highest > r.Generation:
		r.doubt(t.Highest)
		r.rebase(t.Highest, now)
	case now.Before(r.Hold):
		return false
	case r.pardon(now):
	case r.idle(p, t, now):
	case r.retire(p, now):
	case r.Phase == Steady:
		return r.distribute(p, now, fresh)
	case r.Phase == Distributing && r.takeBack(p, t, now):
	default:
		return r.advance(p, t, now)
	}
	return true
}

// begin gives a new scope its first key, which encrypts at once: nobody holds another.
func (r *Rollout) begin(k keysource.TicketKey, now time.Time) {
	r.add(k, now)
	r.Keys[0].Promoted, r.Keys[0].First = r.Generation, now
	r.enter(Steady, now)
	r.log(Line{At: now, What: LineDone, Key: k.ID(), By: "lockstepd", Why: "the scope is new"})
}

// rebase lifts the generation above one that was handed out and that this store never reached: the store lost writes. The
// keys stay; every node must accept them anew before anything is concluded from what it holds.
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
			k.Demoted, k.Idle = r.Generation, time.Time{}
		}
	}
	r.log(Line{At: now, What: LineRebased, By: "lockstepd", Why: fmt.Sprintf("the store has lost what was handed out as g%d; a key that was burnt since g%d may be in use again", highest, lost)})
}

// pardon forgets exclusions that have ended.
func (r *Rollout) pardon(now time.Time) bool {
	for node, until := range r.Excluded {
		if !now.Before(until) {
			delete(r.Excluded, node)
			return true
		}
	}
	return false
}

// idle keeps, for each draining key, since when no live member may be encrypting with it. A node that comes back with an old ring starts the
// clock again. A key that is past MaxKeyAge and has waited a lease for the last ones no longer waits: else one refusing node
// would keep it alive for ever.
func (r *Rollout) idle(p Policy, t Tally, now time.Time) bool {
	lowest := uint64(math.MaxUint64) // floor of a live member
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
		abandoned := now.Sub(k.First) >= p.MaxKeyAge && now.Sub(k.Left) >= p.NodeLease
		used := !abandoned && lowest < k.Demoted
		switch {
		case used && !k.Idle.IsZero():
			k.Idle = time.Time{}
			return true
		case !used && k.Idle.IsZero():
			k.Idle = now
			return true
		}
	}
	return false
}

// retire drops a key whose last ticket has grown old.
func (r *Rollout) retire(p Policy, now time.Time) bool {
	for i, k := range r.Keys {
		if k.Demoted != 0 && !k.Idle.IsZero() && now.Sub(k.Idle) >= p.TicketLifetime+p.margin() {
			r.drop(i)
			r.log(Line{At: now, What: LineRetired, Key: k.Key.ID(), By: "lockstepd", Why: "its last ticket is older than ticket_lifetime", Took: now.Sub(k.Left)})
			return true
		}
	}
	return false
}

// due: the period is over, or somebody asked.
func (r Rollout) due(p Policy, now time.Time) bool {
	return r.Wanted != nil || r.Underway() || now.Sub(r.Keys[0].First) >= p.Period
}

func (r Rollout) full() bool { return len(r.Keys) >= keysource.MaxRing }

// distribute begins a rotation, or tries one again that was taken back.
func (r *Rollout) distribute(p Policy, now time.Time, fresh func() keysource.TicketKey) bool {
	if !r.due(p, now) || now.Before(r.RetryAt) || r.full() {
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
	if !r.Underway() {
		r.Begun++
		r.Tries = 0
		r.Refusers = nil
	}
	r.add(k, now)
	r.enter(Distributing, now)
	r.log(Line{At: now, What: LineDistributing, Key: k.ID(), By: by, Why: why})
	return true
}

// takeBack drops the new key again when a member refuses the ring that holds it: it decrypts nowhere that matters yet, so nobody is harmed, and the
// fleet is whole again. The rotation is tried again later; a node that goes on refusing beyond the grace is only waited for.
func (r *Rollout) takeBack(p Policy, t Tally, now time.Time) bool {
	i := r.next()
	if p.RefuseGrace == 0 {
		return false
	}
	for j := range t.Members {
		m := &t.Members[j]
		if m.Refused < r.Keys[i].Added || !m.Live(p, now) || r.excluded(m, now) {
			continue
		}
		first, again := r.Refusers[m.Name()]
		if again && now.Sub(first.At) >= p.RefuseGrace || !again && len(r.Refusers) >= maxRefusers {
			continue
		}
		if !again {
			r.refusedBy(m, now)
		}
		id := r.Keys[i].Key.ID()
		r.RetryAt = now.Add(backoff(r.Tries))
		r.Tries++
		r.drop(i)
		took := now.Sub(r.Since)
		r.enter(Steady, now)
		r.log(Line{At: now, What: LineTakenBack, Key: id, By: m.Name(), Why: m.Words, Took: took})
		return true
	}
	return false
}

func (r *Rollout) refusedBy(m *Member, now time.Time) {
	if r.Refusers == nil {
		r.Refusers = map[string]Refusal{}
	}
	r.Refusers[m.Name()] = Refusal{At: now, Words: brief(m.Words, maxReason)}
}

// backoff before the next try: 1 s, doubling to 5 min.
func backoff(tries int) time.Duration {
	return min(time.Second<<min(tries, 9), 5*time.Minute)
}

// advance ends the phase when every live member has reached its target, or when the rest may be left behind.
func (r *Rollout) advance(p Policy, t Tally, now time.Time) bool {
	late, waited := r.waiting(p, t, now)
	if len(late) > 0 && !r.leaveBehind(p, len(late), waited, now) {
		return false
	}
	if r.Phase == Burning && waited > 0 && (t.Reached.IsZero() || now.Sub(t.Reached) < FinishWithin) {
		return false // a connection that was accepted before the ACK goes on with the keys of then
	}
	line := Line{At: now, Nodes: waited - len(late), Took: now.Sub(r.Since), WaitedFor: t.Waited, LeftBehind: someNames(late)}
	switch r.Phase {
	case Distributing:
		r.lead(r.next(), now)
		r.enter(Promoting, now)
		line.What = LinePromoting
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

// FinishWithin is how long a handshake may go on with the keys that its node had when the connection was accepted: the
// transport_socket_connect_timeout of each chain that lockstep writes.
const FinishWithin = 10 * time.Second

// end is the end of a rotation or burn.
func (r *Rollout) end(now time.Time) {
	r.Ended, r.Wanted, r.Refusers, r.Tries, r.RetryAt = r.Begun, nil, nil, 0, time.Time{}
	r.enter(Steady, now)
}

// leaveBehind: may the phase end without the late ones? A burn never leaves anybody behind.
func (r Rollout) leaveBehind(p Policy, late, waited int, now time.Time) bool {
	if r.Phase == Burning {
		return false
	}
	took := now.Sub(r.Since)
	if p.Laggard > 0 && took >= p.Laggard && float64(waited-late) >= p.Quorum*float64(waited) {
		return true
	}
	// A rotation that begins late, as after a night without a control plane, still waits for everybody for a lease.
	return now.Sub(r.oldestUse()) >= p.MaxKeyAge && took >= p.NodeLease
}

// oldestUse is when the key that is to stop encrypting began to.
func (r Rollout) oldestUse() time.Time {
	if r.Phase == Promoting && len(r.Keys) > 1 {
		return r.Keys[1].First
	}
	return r.Keys[0].First
}

// Due is the next moment at which Next may answer differently although nothing happened.
func (r Rollout) Due(p Policy, t Tally, now time.Time) (due time.Time) {
	at := func(t time.Time) {
		if t.After(now) && (due.IsZero() || t.Before(due)) {
			due = t
		}
	}
	for i, k := range r.Keys {
		if i == 0 {
			at(k.First.Add(p.Period))
		}
		at(k.First.Add(p.MaxKeyAge))
		if k.Demoted != 0 {
			at(k.Left.Add(p.NodeLease))
			if !k.Idle.IsZero() {
				at(k.Idle.Add(p.TicketLifetime + p.margin()))
			}
		}
	}
	at(r.RetryAt)
	at(t.Proved.Add(patience))
	if r.Phase == Burning && !t.Reached.IsZero() {
		at(t.Reached.Add(FinishWithin))
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
		if m := &t.Members[i]; !m.Connected || !m.Answered && m.Stream != 0 { // the time of another replica's candidate stands still between its words
			at(m.Since.Add(p.NodeLease))
		}
	}
	return due
}
