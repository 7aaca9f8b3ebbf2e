package rotation

import (
	"maps"
	"time"
)

// noteLifetimes keeps, for each key, the longest ticket_lifetime that was in force while the key
// might make tickets. It reports whether that is news.
//
// A key leaves the ring when the last ticket that it made has grown old, and a ticket keeps the
// lifetime that it was issued with. So a change of ticket_lifetime never changes what is promised
// for tickets that are out already:
//
//   - If ticket_lifetime shrinks, a key that made tickets before goes on decrypting by the longer
//     one. Only keys that are first promoted afterwards drain by the shorter one.
//   - If ticket_lifetime grows, the keys that may still encrypt drain by the longer one. A key with
//     which nobody encrypts any more made tickets of the shorter lifetime alone, and drains by that.
//     So the ring does not fill with keys that nobody needs.
//   - If replicas differ, the longest one that is in force at any of them counts (see
//     [Policy.Beside]). What is noted stands in the record and only grows while the key may encrypt.
//
// Nothing is noted until ticket_lifetime changes for the first time, or differs at two replicas.
// Until then all keys are of one lifetime, and earlier versions of lockstepd refuse a record with
// notes.
func (r *Rollout) noteLifetimes(p Policy) (changed bool) {
	begun := len(r.Lifetimes) > 0
	if !begun && p.lifetimeBefore == 0 {
		return false
	}
	there := map[string]bool{}
	for i := range r.Keys {
		k := &r.Keys[i]
		f := k.Key.Fingerprint()
		there[f] = true
		if k.Promoted == 0 {
			continue // it made no ticket
		}
		have := r.Lifetimes[f]
		if !begun {
			r.setLifetime(f, p.lifetimeBefore)
			have, changed = p.lifetimeBefore, true
		}
		if have == 0 || k.mayEncrypt() && have < p.lifetime() {
			r.setLifetime(f, p.lifetime())
			changed = true
		}
	}
	before := len(r.Lifetimes)
	maps.DeleteFunc(r.Lifetimes, func(f string, _ time.Duration) bool { return !there[f] })
	return changed || len(r.Lifetimes) < before
}

// Noted returns r with what is noted of its keys at each step, for a change that is no step.
func (r Rollout) Noted(p Policy) Rollout {
	r = r.clone()
	r.noteLifetimes(p)
	return r
}

// Notes reports whether r holds what is to be noted of its keys under p. If it does, and is stored,
// keys drain by the lifetimes that are in force now, also when none of those who have them is there
// any more.
func (r Rollout) Notes(p Policy) bool {
	r = r.clone()
	return !r.noteLifetimes(p)
}

func (r *Rollout) setLifetime(fingerprint string, d time.Duration) {
	if r.Lifetimes == nil {
		r.Lifetimes = map[string]time.Duration{}
	}
	r.Lifetimes[fingerprint] = d
}

// lifetimeOf returns the longest lifetime that a ticket of k was issued with.
func (r Rollout) lifetimeOf(p Policy, k Key) time.Duration {
	have := r.Lifetimes[k.Key.Fingerprint()]
	if have == 0 || k.mayEncrypt() {
		return max(have, p.lifetime())
	}
	return have
}

// retiresAt returns when k leaves the ring. It returns zero while k encrypts, or a live node may
// encrypt with it.
func (r Rollout) retiresAt(p Policy, k Key) time.Time {
	if k.mayEncrypt() {
		return time.Time{}
	}
	return k.UnusedSince.Add(drainsFor(r.lifetimeOf(p, k)))
}

// mayEncrypt reports whether k encrypts, or a live node may encrypt with it. It is true too for a
// key that only decrypts so far.
func (k Key) mayEncrypt() bool { return k.Demoted == 0 || k.UnusedSince.IsZero() }

// bounded returns all without what no policy allows. A record from elsewhere may hold that.
func bounded(all map[string]time.Duration) map[string]time.Duration {
	maps.DeleteFunc(all, func(_ string, d time.Duration) bool { return d <= 0 })
	for f, d := range all {
		all[f] = min(d, MaxTicketLifetime)
	}
	return all
}
