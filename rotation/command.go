package rotation

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/lockstep-tls/lockstep/keysource"
)

func refuse(format string, a ...any) error {
	return fmt.Errorf("%w: %w", ErrRefused, fmt.Errorf(format, a...))
}

// acceptsKey checks a key that comes from outside. It refuses one that is weak, was burnt, or is
// named like one that is in the ring. The error wraps [keysource.ErrBadTicketKey] or [ErrRefused].
func (r Rollout) acceptsKey(k keysource.TicketKey) error {
	if err := k.Check(); err != nil {
		return err
	}
	if r.isBurnt(k) {
		return refuse("the key %s was burnt: make another", k.ID())
	}
	for _, have := range r.Keys {
		if have.Key.ID() == k.ID() {
			return refuse("the ring holds a key of that name already (%s)", k.ID())
		}
	}
	return nil
}

// Ask requests a rotation and returns its number. While one is under way the request joins that
// one, unless it brings a key of its own. Else it is refused if there is no [Room] for it.
func (r Rollout) Ask(q Request, p Policy, now time.Time) (Rollout, uint64, error) {
	if q.Key != nil {
		if err := r.acceptsKey(*q.Key); err != nil {
			return r, 0, err
		}
		if r.underway() || r.Wanted != nil {
			return r, 0, refuse("rotation %d %w", r.Begun, ErrUnderway)
		}
	}
	if r.Phase == Burning {
		return r, 0, refuse("a burn is under way (%d); it has replaced every key", r.Begun)
	}
	if r.underway() {
		return r, r.Begun, nil
	}
	if r.Wanted == nil && len(r.Keys) > 0 {
		if err := r.hasRoom(q.By, p, now); err != nil {
			return r, 0, err
		}
	}
	r = r.clone()
	if r.Wanted == nil {
		q.By, q.Why = brief(q.By, maxBy), brief(q.Why, maxWhy)
		r.Wanted = &q
		r.RetryAt = time.Time{}
	}
	return r, r.Begun + 1, nil
}

// Burn replaces every key by a fresh one at once and keeps the fingerprints of the old ones. Live
// tickets are refused from then on, which is its purpose. It returns the number by which its end
// is found in the history.
func (r Rollout) Burn(by, why string, fresh keysource.TicketKey, now time.Time) (Rollout, uint64) {
	r = r.clone()
	gone := r.Ring().Keys
	if w := r.Wanted; w != nil && w.Key != nil {
		// an operator's key that waits may have leaked with the others
		gone = append(gone, *w.Key)
	}
	for _, k := range gone {
		f := k.Fingerprint() // the newest stand last and are kept for longest
		r.Burnt = append(slices.DeleteFunc(r.Burnt, func(have string) bool { return have == f }), f)
	}
	r.Keys, r.Restored = nil, nil
	r.end(now)
	r.Begun++
	r.add(fresh, now)
	r.Keys[0].Promoted, r.Keys[0].FirstUsed = r.Generation, now
	r.enter(Burning, now)
	r.log(Line{At: now, What: lineBurning, Key: fresh.ID(), By: by, Why: why})
	return r, r.Begun
}

// Rollback undoes the newest change. A new key that is being distributed is dropped. Otherwise the
// newest key that drains goes first again, if every live member holds it and it is younger than
// MaxKeyAge. The key that encrypted drains, and fresh is distributed at once, for which there must
// be [Room]. Rollback returns the number of the rotation that begins, or 0 if none does.
func (r Rollout) Rollback(
	by, why string, p Policy, t Tally, now time.Time, fresh keysource.TicketKey,
) (Rollout, uint64, error) {
	if now.Before(r.Hold) {
		return r, 0, refuse("the store had lost its content: "+
			"which nodes are here is known in %s at the latest; ask again then", r.Hold.Sub(now).Round(time.Second))
	}
	r = r.clone()
	switch r.Phase {
	case Burning:
		return r, 0, refuse("a burn cannot be rolled back: its keys are not to be used again")
	case Distributing:
		i := r.pendingKey()
		id := r.Keys[i].Key.ID()
		r.drop(i)
		r.end(now)
		r.RetryAt = now.Add(p.Period) // else the period would bring a new key at once
		r.log(Line{At: now, What: LineRolledBack, Key: id, By: by, Why: why})
		return r, 0, nil
	}
	i, err := r.earlierKey(p, t, now)
	if err != nil {
		return r, 0, err
	}
	f, again := r.withoutKey(i).forecast(p, now), drainsFor(r.lifetimeOf(p, r.Keys[i]))
	if !f.fits(keysource.MaxRing, f.lasts, again) {
		return r, 0, refuse("the ring has no room for the fresh key that a rollback distributes: "+
			"it holds %d keys, and the other places are for the rotations of the period; wait until a key retires",
			len(r.Keys))
	}
	r.end(now)
	r.promote(i, now)
	r.Begun++
	r.add(fresh, now)
	r.enter(Distributing, now)
	r.log(Line{At: now, What: LineRolledBack, Key: r.Keys[0].Key.ID(), By: by, Why: why})
	r.log(Line{At: now, What: lineDistributing, Key: fresh.ID(), By: by, Why: "follows the rollback"})
	return r, r.Begun, nil
}

// earlierKey returns the index of the key that a rollback puts first, or says why there is none.
func (r Rollout) earlierKey(p Policy, t Tally, now time.Time) (int, error) {
	newest := -1
	for i, k := range r.Keys {
		if k.Demoted != 0 && (newest < 0 || k.Demoted > r.Keys[newest].Demoted) {
			newest = i
		}
	}
	if newest < 0 {
		return 0, refuse("no earlier key drains in this ring: rotate instead")
	}
	k := r.Keys[newest]
	if age := now.Sub(k.FirstUsed); age >= p.MaxKeyAge {
		return 0, refuse("the newest earlier key (%s) has been in use for %s, beyond max_key_age (%s): rotate instead",
			k.Key.ID(), age.Round(time.Second), p.MaxKeyAge)
	}
	if late, _ := r.below(k.Added, p, t, now); len(late) > 0 {
		return 0, refuse("not every live node holds the earlier key (%s): %v", k.Key.ID(), Names(late))
	}
	return newest, nil
}

// Exclude lets rollouts go on without a node until a time. If it is the last for whose refusal a
// rotation is put off, the rotation goes on now. A time that is not after now takes the exclusion
// back.
func (r Rollout) Exclude(node, by, why string, until, now time.Time) (Rollout, error) {
	switch _, known := r.Excluded[node]; {
	case node == "":
		return r, errors.New("no node is named")
	case len(node) > maxNode:
		return r, refuse("no node has an id of more than %d bytes", maxNode)
	case !known && len(r.Excluded) >= maxExcluded && until.After(now):
		return r, refuse("%d nodes %w", len(r.Excluded), ErrTooManyExcluded)
	}
	r = r.clone()
	if why != "" {
		why = ": " + why
	}
	what := lineExcluded
	if !until.After(now) {
		if _, ok := r.Excluded[node]; !ok {
			return r, fmt.Errorf("an exclusion of node %q %w", node, keysource.ErrNotExist)
		}
		delete(r.Excluded, node)
		what = lineIncluded
		why = node + why
	} else {
		if r.Excluded == nil {
			r.Excluded = map[string]time.Time{}
		}
		r.Excluded[node] = until
		why = fmt.Sprintf("%s until %s%s", node, until.UTC().Format(time.RFC3339), why)
		if r.underway() && r.refusersExcluded(now) {
			r.RetryAt = time.Time{}
		}
	}
	r.log(Line{At: now, What: what, By: by, Why: why})
	return r, nil
}

// refusersExcluded reports whether every node is excluded for whose refusal a rotation was taken
// back.
func (r Rollout) refusersExcluded(now time.Time) bool {
	for name := range r.Refusers {
		node, _, _ := strings.Cut(name, "#")
		if !now.Before(r.Excluded[name]) && !now.Before(r.Excluded[node]) {
			return false
		}
	}
	return len(r.Refusers) > 0
}

// Plan says what a rotation would do now, to whom, and what would block it.
type Plan struct {
	Scope     string        `json:"scope"`
	Steps     []string      `json:"steps"`
	Nodes     []string      `json:"nodes"`      // Nodes would have to accept.
	Blocked   []string      `json:"blocked_by"` // Blocked says why it would not go on now.
	Drains    string        `json:"drains"`     // Drains is the key that would drain.
	DrainsFor time.Duration `json:"drains_for_ns"`
	// Notes say what other changes would do to the tickets of the scope.
	Notes []string `json:"notes,omitempty"`
}

// Plan makes a dry run of a rotation.
func (r Rollout) Plan(p Policy, t Tally, now time.Time) Plan {
	plan := Plan{Scope: r.Scope, DrainsFor: drainsFor(p.lifetime()), Notes: p.notes()}
	if len(r.Keys) == 0 {
		plan.Blocked = []string{"the scope has no key yet"}
		return plan
	}
	for _, m := range t.Members {
		if m.Live(p, now) && !r.isExcluded(&m, now) {
			plan.Nodes = append(plan.Nodes, m.Name())
		}
	}
	plan.Drains, plan.DrainsFor = r.Keys[0].Key.ID(), drainsFor(r.lifetimeOf(p, r.Keys[0]))
	if r.underway() || r.Phase != Steady {
		plan.Steps = []string{fmt.Sprintf("rotation %d is under way (%s); a request would join it", r.Begun, r.Phase)}
		plan.Blocked = r.blockedBy(p, t, now)
		return plan
	}
	plan.Steps = []string{
		fmt.Sprintf("g%d: a new key is sent to %d nodes, behind the present ones; it decrypts only",
			r.Generation+1, len(plan.Nodes)),
		fmt.Sprintf("g%d: once each has accepted it, it goes first and encrypts", r.Generation+2),
		fmt.Sprintf("g%d: once each has accepted that, %s drains and leaves %s later",
			r.Generation+3, plan.Drains, plan.DrainsFor),
	}
	asked, _, err := r.Ask(Request{}, p, now)
	if err != nil {
		plan.Blocked = append(plan.Blocked, err.Error())
		return plan
	}
	dry, _ := asked.Next(p, t, now, keysource.NewTicketKey)
	for _, m := range t.Members {
		// after the push every member is behind for a moment; who cannot answer blocks
		if m.Live(p, now) && !dry.isExcluded(&m, now) && (!m.Connected || m.Refused != 0) {
			plan.Blocked = append(plan.Blocked, dry.excuse(m, p, now))
		}
	}
	return plan
}
