package rotation

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/lockstep-tls/lockstep/keysource"
)

// Room says how many rotations may still be asked for. A key that was asked for takes a place in
// the ring until it has drained, and the period's own rotations need places too. Everything is
// derived from the ring and its history, so the limit is the same at every replica.
//
//   - A rotation that is asked for leaves room for every rotation of the period after it, and one
//     place for a rollback. A rollback leaves room for those of the period alone. A burn needs no
//     room: it empties the ring.
//   - A requester who has brought keys of the ring may ask while it leaves to others at least as
//     many rotations as it would have. Who has brought none may ask once in any case.
//   - A request that joins a rotation under way brings no key. It is never refused for room.
type Room struct {
	Left int // Left is how many rotations may be asked for now, by all together.
	// LeftToOne is how many of them one requester may ask for who brought no key.
	LeftToOne int
	AgainAt   time.Time // AgainAt is when one more may be asked for. It is zero if Left is not 0.
	// By has those who brought keys of the ring, by name.
	By []Requester
}

// Requester is somebody who asked for rotations whose keys are in the ring.
type Requester struct {
	Name string // Name is what was proved of the requester, without what it claims.
	Keys int    // Keys is how many keys of the ring it brought.
	Left int    // Left is how many rotations it may ask for now.
	// AgainAt is when it may ask for one more. It is zero if Left is not 0.
	AgainAt time.Time
}

// For returns what a requester may ask for; by is as in [Request].
func (m Room) For(by string) Requester {
	name := requester(by)
	for _, q := range m.By {
		if q.Name == name {
			return q
		}
	}
	return Requester{Name: name, Left: m.LeftToOne, AgainAt: m.AgainAt}
}

// itself is who asks for the rotations of the period.
const itself = "lockstepd"

// requester returns the name in a Line.By. Behind it may stand in parentheses what the requester
// claims. A claim holds no parenthesis.
func requester(by string) string {
	by = brief(by, maxBy)
	if i := strings.LastIndex(by, " (claims "); i >= 0 {
		by = by[:i]
	}
	return by
}

// forecast is a ring as the next hours find it, if every node accepts at once. A method that
// changes it must not be called on a shared one.
type forecast struct {
	now       time.Time
	drains    []leaving
	encrypts  leaving       // encrypts is the first key. Its gone is not known, and zero.
	firstUsed time.Time     // firstUsed is when encrypts began to.
	lasts     time.Duration // lasts is how long encrypts will drain.
	period    time.Duration
	newLasts  time.Duration // newLasts is how long a key will drain that is added from now on.
	// window is how many keys of the period's rotations drain at once.
	window int
}

// leaving is a key with when it leaves the ring at the latest, and who brought it. by is "" for
// the period's own, and for keys of which the history tells nothing any more.
type leaving struct {
	gone time.Time
	by   string
}

// forecast returns what is to be expected of r, which must have a key. A rotation under way counts
// as one that has ended.
func (r Rollout) forecast(p Policy, now time.Time) forecast {
	brought := map[string]string{}
	for _, l := range r.History {
		if l.What == lineDistributing && l.By != itself {
			brought[l.Key] = requester(l.By)
		}
	}
	f := forecast{now: now, period: p.Period, newLasts: drainsFor(p.lifetime())}
	f.window = min(int((f.newLasts+p.Period-1)/p.Period), keysource.MaxRing-2)
	for i, k := range r.Keys {
		key := leaving{by: brought[k.Key.ID()]}
		lasts := drainsFor(r.lifetimeOf(p, k))
		switch {
		case i == 0:
			f.encrypts, f.firstUsed, f.lasts = key, k.FirstUsed, lasts
			continue
		case k.Promoted == 0: // it will go first
			key, f.encrypts = f.encrypts, key
			key.gone = now.Add(f.lasts)
			f.firstUsed, f.lasts = now, f.newLasts
		case !k.mayEncrypt():
			key.gone = r.retiresAt(p, k)
		case r.Phase != Steady: // the phase ends when nobody uses it any more
			key.gone = now.Add(lasts)
		default: // some node goes on using it; see noteUnused
			key.gone = latest(now, k.FirstUsed.Add(p.MaxKeyAge), k.DemotedAt.Add(p.NodeLease)).Add(lasts)
		}
		f.drains = append(f.drains, key)
	}
	return f
}

// withoutKey returns r without key i, for a forecast.
func (r Rollout) withoutKey(i int) Rollout {
	r.Keys = slices.Delete(slices.Clone(r.Keys), i, i+1)
	return r
}

// fits reports whether a key may be added now, so that each rotation of the period after it has
// room as well. Keys that drain for the times in leaving cease to encrypt for it. In none of these
// rotations the ring has more than most keys, unless the policy needs more by itself.
//
// Rotations are at least a period apart, and a key ceases to be used before the next one begins.
// From the rotation after window others on, the period's own keys become no more.
func (f *forecast) fits(most int, leaving ...time.Duration) bool {
	most = max(most, f.window+2)
	if len(f.drains)+1+len(leaving) > most {
		return false
	}
	for j := 1; j <= f.window+1; j++ {
		at := f.now.Add(time.Duration(j) * f.period)
		n := min(j-1, f.window) + 2
		for _, k := range f.drains {
			if k.gone.After(at) {
				n++
			}
		}
		for _, lasts := range leaving {
			if time.Duration(j-1)*f.period < lasts {
				n++
			}
		}
		if n > most {
			return false
		}
	}
	return true
}

// mostAsked is how many keys the ring has at most if all is done that is asked for. One place is
// left for a rollback.
const mostAsked = keysource.MaxRing - 1

// rotate makes a rotation of f.
func (f *forecast) rotate(by string) {
	f.encrypts.gone = f.now.Add(f.lasts)
	f.drains = append(f.drains, f.encrypts)
	f.encrypts, f.firstUsed, f.lasts = leaving{by: by}, f.now, f.newLasts
}

// left returns how many rotations may be asked for now.
func (f *forecast) left() (n int) {
	c := *f
	c.drains = slices.Clone(f.drains)
	for c.fits(mostAsked, c.lasts) {
		c.rotate("")
		n++
	}
	return n
}

// keysOf returns how many keys somebody brought.
func (f *forecast) keysOf(by string) (n int) {
	for _, k := range append(f.drains[:len(f.drains):len(f.drains)], f.encrypts) {
		if k.by == by {
			n++
		}
	}
	return n
}

// leftTo returns how many rotations somebody may ask for now.
func (f *forecast) leftTo(by string) int {
	left := f.left()
	if by == "" || by == itself {
		return left
	}
	have := f.keysOf(by)
	n := max((left-have)/2, 0)
	if have == 0 && left > 0 {
		n = max(n, 1)
	}
	return n
}

// lookAhead bounds how many events of the future are looked at.
const lookAhead = 500

// when returns the first time at which may holds, now or later. It is zero if that is too far away.
func (f forecast) when(may func(*forecast) bool) time.Time {
	f.drains = slices.Clone(f.drains)
	for range lookAhead {
		if may(&f) {
			return f.now
		}
		f.pass()
	}
	return time.Time{}
}

// pass goes on to the next moment at which fits may answer differently.
func (f *forecast) pass() {
	scheduled := f.firstUsed.Add(f.period)
	next := scheduled
	for _, k := range f.drains {
		for j := range f.window + 2 {
			at := k.gone.Add(-time.Duration(j) * f.period)
			if at.After(f.now) && (at.Before(next) || !next.After(f.now)) {
				next = at
			}
		}
	}
	if !next.After(f.now) { // a rotation is overdue, and nothing drains
		next = f.now.Add(f.period)
	}
	f.now = next
	f.drains = slices.DeleteFunc(f.drains, func(k leaving) bool { return !k.gone.After(next) })
	if next.Equal(scheduled) && len(f.drains)+2 <= keysource.MaxRing {
		f.rotate("")
	}
}

// room returns what may be asked for.
func (r Rollout) room(p Policy, now time.Time) (m Room) {
	if len(r.Keys) == 0 || r.Phase == Burning {
		return m
	}
	f := r.forecast(p, now)
	m.Left, m.LeftToOne = f.left(), f.leftTo(" ")
	if m.Left == 0 {
		m.AgainAt = f.when(func(f *forecast) bool { return f.left() > 0 })
	}
	for _, k := range append(f.drains[:len(f.drains):len(f.drains)], f.encrypts) {
		known := slices.ContainsFunc(m.By, func(q Requester) bool { return q.Name == k.by })
		if k.by == "" || known {
			continue
		}
		q := Requester{Name: k.by, Keys: f.keysOf(k.by), Left: f.leftTo(k.by)}
		if q.Left == 0 {
			q.AgainAt = f.when(func(f *forecast) bool { return f.leftTo(k.by) > 0 })
		}
		m.By = append(m.By, q)
	}
	slices.SortFunc(m.By, func(a, b Requester) int { return strings.Compare(a.Name, b.Name) })
	return m
}

// hasRoom refuses a rotation that is asked for and for which there is no room.
func (r Rollout) hasRoom(by string, p Policy, now time.Time) error {
	f, by := r.forecast(p, now), requester(by)
	switch {
	case f.leftTo(by) > 0:
		return nil
	case f.left() == 0:
		return refuse("the ring has no room for a rotation that is asked for: it holds %d keys, "+
			"and the other places are for the rotations of the period; %s", len(r.Keys),
			f.askAgain(func(f *forecast) bool { return f.left() > 0 }))
	}
	return refuse("%s has brought %d of the ring's %d keys, and the room that is left is for others; %s",
		by, f.keysOf(by), len(r.Keys), f.askAgain(func(f *forecast) bool { return f.leftTo(by) > 0 }))
}

// askAgain says when to.
func (f forecast) askAgain(may func(*forecast) bool) string {
	at := f.when(may)
	if at.IsZero() {
		return "ask again when keys have left the ring"
	}
	// whole seconds, and none too early
	wait := at.Sub(f.now).Truncate(time.Second) + time.Second
	return fmt.Sprintf("ask again in %s, at %s", wait, f.now.Add(wait).UTC().Format(time.RFC3339))
}

// latest returns the last of some times.
func latest(times ...time.Time) (last time.Time) {
	for _, t := range times {
		if t.After(last) {
			last = t
		}
	}
	return last
}
