package rotation

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// View is what may be shown of a rollout. It holds no key bytes.
type View struct {
	Scope      string
	Version    string // Version is that of the ring. It is empty while the scope has none.
	Generation uint64
	Phase      Phase
	Since      time.Time // Since is when the phase began.
	Keys       []KeyView // Keys are in the order of the ring.
	NextAt     time.Time // NextAt is when the period of the key that encrypts is over.

	Begun    uint64 // Begun is the number of the newest rotation or burn.
	Ended    uint64 // Ended is the number of the newest one that ended.
	Asked    bool   // Asked says that a rotation was asked for and has not ended.
	Underway bool   // Underway says that a rotation or burn has begun and not ended.
	// RetryAt is when a rotation is tried again that a refusal took back. Until then the phase is
	// steady, since no new key is on its way. It is zero at all other times.
	RetryAt time.Time

	// Refusers are the nodes that refused a ring of the rotation under way.
	Refusers map[string]Refusal
	Excluded map[string]time.Time // Excluded are the nodes that are not waited for, and until when.
	// Proven is the generation that nodes proved when the store had lost it.
	Proven uint64
	// Doubted are the IDs of keys from before that loss, each perhaps burnt since.
	Doubted []string
	History []Line // History has the newest line last.

	Room  Room // Room is how many rotations may be asked for.
	Count Count
	// BlockedBy says in words what keeps the rollout from going on; nil if nothing does.
	BlockedBy []string
	// Stuck says in words which nodes the phase waits for that must be restarted.
	Stuck     []string
	OnlyStuck bool // OnlyStuck says that the phase waits for nothing but stuck nodes.
}

// KeyView is what may be shown of a ticket key.
type KeyView struct {
	ID string
	// Fingerprint is what the audit log names the key by, besides its ID.
	Fingerprint string
	Added       uint64 // Added is the generation that brought it.
	Created     time.Time
	FirstUsed   time.Time // FirstUsed is when it first encrypted. It is zero if it never did.
	MayEncrypt  bool      // MayEncrypt says that a live node may encrypt with it.
	RetiresAt   time.Time // RetiresAt is when it leaves the ring. It is zero while that is open.
}

// View returns what may be shown of r.
func (r Rollout) View(p Policy, t Tally, now time.Time) View {
	v := View{
		Scope: r.Scope, Generation: r.Generation, Phase: r.Phase, Since: r.Since,
		Begun: r.Begun, Ended: r.Ended, Asked: r.Wanted != nil, Underway: r.underway(),
		Refusers: maps.Clone(r.Refusers), Excluded: maps.Clone(r.Excluded), History: r.History,
		Count: r.count(p, t, now),
	}
	if len(r.Keys) == 0 {
		return v
	}
	if r.Phase == Steady && r.underway() && now.Before(r.RetryAt) {
		v.RetryAt = r.RetryAt
	}
	v.Version = r.Ring().Version()
	v.NextAt = r.Keys[0].FirstUsed.Add(p.Period)
	v.Proven, v.Doubted = r.inDoubt()
	for i, k := range r.Keys {
		v.Keys = append(v.Keys, KeyView{
			ID: k.Key.ID(), Fingerprint: k.Key.Fingerprint(), Added: k.Added,
			Created: k.Created, FirstUsed: k.FirstUsed,
			MayEncrypt: i == 0 || k.Demoted != 0 && k.UnusedSince.IsZero(), RetiresAt: r.retiresAt(p, k),
		})
	}
	v.Room = r.room(p, now)
	v.BlockedBy = r.blockedBy(p, t, now)
	v.Stuck, v.OnlyStuck = r.stuck(p, t, now)
	return v
}

// blockedBy says in words what keeps the rollout from going on, by node; nil if nothing does.
func (r Rollout) blockedBy(p Policy, t Tally, now time.Time) (why []string) {
	if now.Before(r.Hold) {
		why = append(why, fmt.Sprintf("the store had lost its content: "+
			"the other replicas and their nodes are waited for, %s more", r.Hold.Sub(now).Round(time.Second)))
	}
	late, _ := r.waiting(p, t, now)
	why = r.excuses(late, p, now, why...)
	if r.Phase == Burning && len(late) == 0 {
		why = append(why, fmt.Sprintf(
			"every node has accepted; connections that were accepted before may go on with a burnt key for %s",
			finishWithin))
	}
	if r.Phase == Steady && r.rotationDue(p, now) {
		if now.Before(r.RetryAt) {
			for name, f := range r.Refusers {
				why = append(why, fmt.Sprintf("%s: refused the new key, which was taken back: %s", name, f.Words))
			}
			slices.Sort(why)
			why = append(why, fmt.Sprintf("the next try is in %s", r.RetryAt.Sub(now).Round(time.Second)))
		} else if r.full() {
			why = append(why, fmt.Sprintf(
				"the ring is full (%d keys drain): wait for the oldest to retire, or lengthen period", len(r.Keys)-1))
		}
	}
	return why
}

// stuck says in words which nodes the phase waits for that must be restarted, by node. Such a node
// has refused a ring of this phase, and nothing that can be sent helps it. only is true if the
// phase waits for nothing else.
func (r Rollout) stuck(p Policy, t Tally, now time.Time) (why []string, only bool) {
	late, _ := r.waiting(p, t, now)
	var stuck []*Member
	for _, m := range late {
		if m.Stuck && m.Connected && m.Refused >= r.Target() {
			stuck = append(stuck, m)
		}
	}
	only = len(stuck) > 0 && len(stuck) == len(late) && !now.Before(r.Hold)
	return r.excuses(stuck, p, now), only
}

// excuses says why each of ms is waited for, sorted, after other reasons. It makes the first 20
// texts and counts the others, since ms may be a whole fleet.
func (r Rollout) excuses(ms []*Member, p Policy, now time.Time, why ...string) []string {
	total := len(why) + len(ms)
	if len(ms) > maxNamed {
		ms = firstByName(ms, maxNamed)
	}
	for _, m := range ms {
		why = append(why, r.excuse(*m, p, now))
	}
	slices.Sort(why)
	if total <= maxNamed {
		return why
	}
	return append(why[:maxNamed], fmt.Sprintf(andMore, total-maxNamed))
}

// firstByName returns the first n of ms in the order of the texts that begin with their names.
func firstByName(ms []*Member, n int) []*Member {
	type named struct {
		name string
		m    *Member
	}
	all := make([]named, len(ms))
	for i, m := range ms {
		all[i] = named{m.Name() + ":", m}
	}
	slices.SortFunc(all, func(a, b named) int { return strings.Compare(a.name, b.name) })
	first := make([]*Member, n)
	for i := range first {
		first[i] = all[i].m
	}
	return first
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
		lease := (p.NodeLease - now.Sub(m.Since)).Round(time.Second)
		return fmt.Sprintf("%s: away for %s, its lease ends in %s; %s", m.Name(), ago, lease, holds)
	case m.Stuck:
		return fmt.Sprintf("%s: refused g%d, and nothing helps: restart this Envoy; it %s: %s",
			m.Name(), m.Refused, holds, m.Words)
	case m.Refused != 0:
		return fmt.Sprintf("%s: refused g%d, %s: %s", m.Name(), m.Refused, holds, m.Words)
	case !m.Answered: // another replica's candidate counts only as far as that replica has said
		return fmt.Sprintf("%s: has not answered its first ring for %s", m.Name(), ago)
	}
	return fmt.Sprintf("%s: has not accepted g%d for %s; %s",
		m.Name(), r.Target(), now.Sub(r.Since).Round(100*time.Millisecond), holds)
}
