package rotation

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/lockstep-tls/lockstep/keysource"
)

// Restored says what a backup brings back to a scope.
type Restored struct {
	Changed bool
	Version string   // of the ring that then is
	Back    []string // IDs of keys that come back
	Refused []string // keys that do not, and why, in words
}

// settleFor is how long nothing steps on in a store that held nothing: nobody is known to be here until lockstepd was started and its nodes are back.
const settleFor = 5 * time.Minute

// Restore merges the record of a rollout from a backup into the stored one, and returns the record to store.
//
// Burnt keys stay burnt, on whichever side they were; where a scope was burnt after the backup was made, none of the backup's keys comes back, and
// where the stored ring holds a key that the backup knows as burnt, that ring is burnt again. The stored ring's keys stay in their order, since
// nodes hold it; the backup's come after them and only decrypt, until their last ticket is older than ticket_lifetime. The generation ends above
// both. Where nothing is stored (nil), or what is stored is damaged, the backup's ring comes back as it is, above its generation. If nodes then prove that there was a later one, every
// key is replaced: it may have been burnt meanwhile; where they have proved it before, none comes back. fresh makes keys. Errors quote nothing of a record.
func Restore(scope, by string, stored, backup []byte, now time.Time, fresh func() keysource.TicketKey) (record []byte, out Restored, err error) {
	from, err := decodeRollout(scope, backup)
	if err != nil {
		return nil, out, fmt.Errorf("in the backup: %w", err)
	}
	r := Rollout{Scope: scope}
	if stored != nil {
		if r, err = decodeRollout(scope, stored); damaged(err) {
			r = Rollout{Scope: scope}
		} else if err != nil {
			return nil, out, err
		}
	}
	if err := r.mayRestore(from); err != nil {
		return nil, out, err
	}
	r, out = r.restore(from, by, now, fresh)
	if record, err = encodeRollout(r); err != nil {
		return nil, out, err
	}
	if _, err := decodeRollout(scope, record); err != nil {
		return nil, out, fmt.Errorf("what would be restored is not good: %w", err)
	}
	return record, out, nil
}

// Restore merges the record of a rollout from a backup into the scope's; see [Restore]. Errors are those of [Coordinator.Rotate].
func (c *Coordinator) Restore(ctx context.Context, scope, by string, backup []byte) (out Restored, err error) {
	from, err := decodeRollout(scope, backup)
	if err != nil {
		return out, fmt.Errorf("in the backup: %w", err)
	}
	err = c.force(ctx, scope, func(v view) (r Rollout, _ error) {
		if err := v.r.mayRestore(from); err != nil {
			return v.r, err
		}
		r, out = v.r.restore(from, by, v.now, v.fresh)
		return r, nil
	})
	return out, err
}

// mayRestore refuses a backup whose generation nobody can have handed out.
func (r Rollout) mayRestore(from Rollout) error {
	if len(r.Keys) == 0 && from.Generation <= maxGeneration/2 || believed(from.Generation, r.Generation) {
		return nil
	}
	return refuse("the backup's ring is g%d, which is out of all proportion to the store's g%d: take another backup", from.Generation, r.Generation)
}

func (r Rollout) restore(from Rollout, by string, now time.Time, fresh func() keysource.TicketKey) (_ Rollout, out Restored) {
	if len(r.Keys) == 0 {
		reached := r.Generation
		r = from.clone()
		if reached > from.Generation { // as in provenOld
			why := fmt.Sprintf("the fleet had come to g%d, and the backup's ring is g%d: its keys may have been burnt in between, and every key is replaced", reached, from.Generation)
			out.Refused = append(out.Refused, why)
			r.Generation, r.Lines, r.Audit = reached, 0, ""
			r, _ = r.Burn(by, why, fresh(), now)
			return r.restored(by, now, out)
		}
		r.above(from.Generation, now)
		r.Lines, r.Audit = 0, "" // they stand in another log, and are not to be written down again
		r.Hold = now.Add(settleFor)
		for _, k := range r.Keys {
			out.Back = append(out.Back, k.Key.ID())
			r.Restored = append(r.Restored, k.Key.Fingerprint())
		}
		return r.restored(by, now, out)
	}
	r = r.clone()
	lostSince := r.Proven > from.Generation
	burntSince := slices.ContainsFunc(r.Burnt, func(f string) bool { return !slices.Contains(from.Burnt, f) })
	changed := r.learnBurnt(from.Burnt)
	if slices.ContainsFunc(r.Keys, func(k Key) bool { return r.burnt(k.Key) }) {
		out.Refused = append(out.Refused, "the stored ring holds a key that the backup knows as burnt: it is burnt again")
		r.Generation = max(r.Generation, from.Generation)
		r, _ = r.Burn(by, "a restored backup knows one of its keys as burnt", fresh(), now)
		return r.restored(by, now, out)
	}
	if from.Generation > r.Generation {
		r.above(from.Generation, now)
		changed = true
	}
	for _, k := range from.Keys {
		why := r.refuses(k.Key, burntSince, lostSince)
		switch {
		case slices.ContainsFunc(r.Keys, func(have Key) bool { return have.Key == k.Key }): // it is there
		case why != "":
			out.Refused = append(out.Refused, k.Key.ID()+": "+why)
		default:
			r.drain(k, now)
			out.Back = append(out.Back, k.Key.ID())
			r.Restored = append(r.Restored, k.Key.Fingerprint())
		}
	}
	if len(out.Back) == 0 && !changed {
		out.Version = r.Ring().Version()
		return r, out
	}
	return r.restored(by, now, out)
}

func (r Rollout) restored(by string, now time.Time, out Restored) (Rollout, Restored) {
	r.log(Line{At: now, What: LineRestored, By: by, Why: "from a backup"})
	out.Changed, out.Version = true, r.Ring().Version()
	return r, out
}

// above lifts the generation as rebase does, and does not say that writes were lost.
func (r *Rollout) above(generation uint64, now time.Time) {
	r.rebase(generation, now)
	r.History = r.History[:len(r.History)-1]
	r.Lines--
}

// provenOld: a node holds a later ring than the backup had whose keys came back. Between the two a key that came back may have been burnt, of which
// nothing here tells.
func (r *Rollout) provenOld(t Tally) bool {
	return t.Highest > r.Generation && slices.ContainsFunc(r.Keys, func(k Key) bool { return slices.Contains(r.Restored, k.Key.Fingerprint()) })
}

// burnRestored replaces every key, as where the store was put back ([ErrPutBack]): no live ticket can be told from a stolen one. Before that it waits for a
// replica that has the later ring and writes it back: the store may have lost no more than its last write.
func (r *Rollout) burnRestored(t Tally, fresh func() keysource.TicketKey, now time.Time) bool {
	if now.Before(t.Proved.Add(patience)) {
		return false
	}
	lost := r.Generation
	r.Generation = t.Highest
	*r, _ = r.Burn("lockstepd", fmt.Sprintf("nodes hold g%d, and keys of an older backup came back at g%d or before", t.Highest, lost), fresh(), now)
	return true
}

// learnBurnt adds fingerprints and reports whether any was new. A requested key that turns out to be burnt is forgotten.
func (r *Rollout) learnBurnt(all []string) (changed bool) {
	news := slices.DeleteFunc(slices.Clone(all), func(f string) bool { return slices.Contains(r.Burnt, f) })
	r.Burnt, changed = slices.Concat(news, r.Burnt), len(news) > 0
	if w := r.Wanted; w != nil && w.Key != nil && r.burnt(*w.Key) {
		r.Wanted = nil
		changed = true
	}
	return changed
}

// refuses says why a key of a backup does not come back, or "".
func (r *Rollout) refuses(k keysource.TicketKey, burntSince, lostSince bool) string {
	switch {
	case r.burnt(k):
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

// drain brings a key back that only decrypts. When it was first used matters for how long it is waited for; if it never was, it may have been since.
func (r *Rollout) drain(k Key, now time.Time) {
	first := k.First
	if first.IsZero() {
		first = k.Created
	}
	r.Generation++
	r.Keys = append(r.Keys, Key{
		Key: k.Key, Created: k.Created, Added: r.Generation, Promoted: r.Generation, First: first, Demoted: r.Generation, Left: now,
	})
}
