package rotation

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/lockstep-tls/lockstep/keysource"
)

// Restored says what a backup brings back to a scope.
type Restored struct {
	Changed bool
	Version string   // Version is that of the ring that then is.
	Back    []string // Back are the IDs of keys that come back.
	Refused []string // Refused are the keys that do not come back, each with the reason in words.
}

// holdEmpty is how long no step is made in a store that held nothing before the restore. Until
// lockstepd was started and its nodes are back, nobody knows which nodes are here.
const holdEmpty = 5 * time.Minute

// Restore merges the record of a rollout from a backup into the stored one, and returns the record
// to store. stored is nil if nothing is stored. fresh makes keys. Errors quote nothing of a
// record.
//
// The rules are:
//   - Burnt keys stay burnt, on whichever side they were burnt. If the scope was burnt after the
//     backup was made, none of the backup's keys comes back. If the stored ring holds a key that
//     the backup knows as burnt, that ring is burnt again.
//   - The stored ring's keys stay in their order, since nodes hold it. The backup's keys come
//     after them and only decrypt, until their last ticket is older than ticket_lifetime. The
//     generation ends above both.
//   - If nothing is stored, or what is stored is damaged, the backup's ring comes back as it is,
//     above its generation. If nodes then prove that there was a later one, every key is replaced,
//     since it may have been burnt meanwhile. If nodes have proved that before, none comes back.
func Restore(
	scope, by string, stored, backup []byte, now time.Time, fresh func() keysource.TicketKey,
) (record []byte, out Restored, err error) {
	r := Rollout{Scope: scope}
	if _, err := Decode(scope, backup); err != nil {
		return nil, out, fmt.Errorf("in the backup: %w", err)
	}
	if stored != nil {
		if r, err = Decode(scope, stored); errors.Is(err, ErrDamaged) {
			r = Rollout{Scope: scope}
		} else if err != nil {
			return nil, out, err
		}
	}
	if r, out, err = r.Restore(backup, by, now, fresh); err != nil {
		return nil, out, err
	}
	if record, err = r.Encode(); err != nil {
		return nil, out, err
	}
	if _, err := Decode(scope, record); err != nil {
		return nil, out, fmt.Errorf("what would be restored is not good: %w", err)
	}
	return record, out, nil
}

// Restore merges the record of a rollout from a backup into r, by the rules of the function
// [Restore]. It refuses a backup whose generation nobody can have handed out.
func (r Rollout) Restore(
	backup []byte, by string, now time.Time, fresh func() keysource.TicketKey,
) (_ Rollout, out Restored, err error) {
	from, err := Decode(r.Scope, backup)
	if err != nil {
		return r, out, fmt.Errorf("in the backup: %w", err)
	}
	empty := len(r.Keys) == 0
	if !Believed(from.Generation, r.Generation) && !(empty && from.Generation <= MaxGeneration/2) {
		return r, out, refuse("the backup's ring is g%d, which is out of all proportion to the store's g%d: "+
			"take another backup", from.Generation, r.Generation)
	}
	if empty {
		r, out = r.takeBackup(from, by, now, fresh)
	} else {
		r, out = r.mergeBackup(from, by, now, fresh)
	}
	return r, out, nil
}

// takeBackup makes from the rollout of a scope that has no ring, or none that can be read.
func (r Rollout) takeBackup(
	from Rollout, by string, now time.Time, fresh func() keysource.TicketKey,
) (_ Rollout, out Restored) {
	reached := r.Generation
	r = from.clone()
	if reached > from.Generation { // as in restoredBelow
		why := fmt.Sprintf("the fleet had come to g%d, and the backup's ring is g%d: "+
			"its keys may have been burnt in between, and every key is replaced", reached, from.Generation)
		out.Refused = append(out.Refused, why)
		r.Generation, r.Lines, r.Audit = reached, 0, ""
		r, _ = r.Burn(by, why, fresh(), now)
		return r.endRestore(by, now, out)
	}
	r.liftAbove(from.Generation, now)
	// the lines stand in another audit log, and are not to be written down again
	r.Lines, r.Audit = 0, ""
	r.Hold = now.Add(holdEmpty)
	for _, k := range r.Keys {
		out.Back = append(out.Back, k.Key.ID())
		r.Restored = append(r.Restored, k.Key.Fingerprint())
	}
	return r.endRestore(by, now, out)
}

// mergeBackup merges from into a rollout that has a ring.
func (r Rollout) mergeBackup(
	from Rollout, by string, now time.Time, fresh func() keysource.TicketKey,
) (_ Rollout, out Restored) {
	r = r.clone()
	lostSince := r.Proven > from.Generation
	burntSince := slices.ContainsFunc(r.Burnt, func(f string) bool { return !slices.Contains(from.Burnt, f) })
	changed := r.learnBurnt(from.Burnt)
	if slices.ContainsFunc(r.Keys, func(k Key) bool { return r.isBurnt(k.Key) }) {
		out.Refused = append(out.Refused,
			"the stored ring holds a key that the backup knows as burnt: it is burnt again")
		r.Generation = max(r.Generation, from.Generation)
		r, _ = r.Burn(by, "a restored backup knows one of its keys as burnt", fresh(), now)
		return r.endRestore(by, now, out)
	}
	if from.Generation > r.Generation {
		r.liftAbove(from.Generation, now)
		changed = true
	}
	for _, k := range from.Keys {
		why := r.whyNotBack(k.Key, burntSince, lostSince)
		switch {
		case slices.ContainsFunc(r.Keys, func(have Key) bool { return have.Key == k.Key }):
			// it is there
		case why != "":
			out.Refused = append(out.Refused, k.Key.ID()+": "+why)
		default:
			r.addDraining(k, now)
			if d := from.Lifetimes[k.Key.Fingerprint()]; d > 0 {
				r.setLifetime(k.Key.Fingerprint(), d)
			}
			out.Back = append(out.Back, k.Key.ID())
			r.Restored = append(r.Restored, k.Key.Fingerprint())
		}
	}
	if len(out.Back) == 0 && !changed {
		out.Version = r.Ring().Version()
		return r, out
	}
	return r.endRestore(by, now, out)
}

func (r Rollout) endRestore(by string, now time.Time, out Restored) (Rollout, Restored) {
	r.log(Line{At: now, What: lineRestored, By: by, Why: "from a backup"})
	out.Changed, out.Version = true, r.Ring().Version()
	return r, out
}

// liftAbove lifts the generation as rebase does, and does not write that the store lost anything.
func (r *Rollout) liftAbove(generation uint64, now time.Time) {
	r.rebase(generation, now)
	r.History = r.History[:len(r.History)-1]
	r.Lines--
}

// restoredBelow reports whether keys came back with a backup, and a node holds a later ring than
// that backup had. Between the two a key that came back may have been burnt, and nothing here
// tells of it.
func (r *Rollout) restoredBelow(t Tally) bool {
	return t.Highest > r.Generation &&
		slices.ContainsFunc(r.Keys, func(k Key) bool { return slices.Contains(r.Restored, k.Key.Fingerprint()) })
}

// burnRestored replaces every key where restoredBelow holds: no live ticket can be distinguished
// from a stolen one. Before that it waits for a replica that has the later ring and writes it
// back, since the store may have lost no more than its last write.
func (r *Rollout) burnRestored(t Tally, fresh func() keysource.TicketKey, now time.Time) bool {
	if now.Before(t.WriteBackUntil) {
		return false
	}
	lost := r.Generation
	r.Generation = t.Highest
	*r, _ = r.Burn("lockstepd", fmt.Sprintf("nodes hold g%d, "+
		"and keys of an older backup came back at g%d or before", t.Highest, lost), fresh(), now)
	return true
}

// learnBurnt adds fingerprints and reports whether any was new. It forgets a requested key that
// turns out to be burnt.
func (r *Rollout) learnBurnt(all []string) (changed bool) {
	news := slices.DeleteFunc(slices.Clone(all), func(f string) bool { return slices.Contains(r.Burnt, f) })
	r.Burnt, changed = slices.Concat(news, r.Burnt), len(news) > 0
	if w := r.Wanted; w != nil && w.Key != nil && r.isBurnt(*w.Key) {
		r.Wanted = nil
		changed = true
	}
	return changed
}

// whyNotBack says why a key of a backup does not come back, or "".
func (r *Rollout) whyNotBack(k keysource.TicketKey, burntSince, lostSince bool) string {
	switch {
	case r.isBurnt(k):
		return "it was burnt"
	case burntSince, r.Phase == Burning:
		return "the scope was burnt after the backup was made"
	case lostSince:
		return "nodes held later rings than the backup's, of which the store knows nothing: it may have been burnt"
	case r.full():
		return "the ring is full"
	case slices.ContainsFunc(r.Keys, func(have Key) bool { return have.Key.ID() == k.ID() }):
		return "the ring holds another key of that name"
	}
	return ""
}

// addDraining brings a key back that only decrypts. When it was first used decides for how long it
// is waited for. If the backup does not say, the key may have been used since it was created.
func (r *Rollout) addDraining(k Key, now time.Time) {
	first := k.FirstUsed
	if first.IsZero() {
		first = k.Created
	}
	r.Generation++
	r.Keys = append(r.Keys, Key{
		Key: k.Key, Created: k.Created, Added: r.Generation, Promoted: r.Generation, FirstUsed: first,
		Demoted: r.Generation, DemotedAt: now,
	})
}
