package rotation

import "slices"

// MaxGeneration bounds what a record may say, so that no record can use the numbers up. What
// others claim is believed up to half of it; see [Believed].
const MaxGeneration = 1 << 53

// maxLead is how far ahead of the store another's word is believed. A store that lost writes is
// behind by what it lost, and that is less than a fleet rotates in a century. The bound keeps a
// lying node, or a damaged backup, from using the numbers up.
const maxLead = 1 << 24

// Believed reports whether a claim is believed that a generation was handed out, where the store
// has reached another one.
func Believed(claimed, stored uint64) bool {
	return claimed <= stored || claimed-stored < maxLead && claimed <= MaxGeneration/2
}

// doubtKeys notes which keys are in the ring although nodes have proved a later one. Then the
// store has lost writes and no replica remembers them: the ring was put back, and every replica's
// own memory with it. The keys stay, since the claim of one node must not cost a fleet its keys.
// But one of them may have been burnt since, and that is shown until it is settled.
func (r *Rollout) doubtKeys(proven uint64) {
	r.Proven, r.Doubted = proven, nil
	for _, k := range r.Keys {
		r.Doubted = append(r.Doubted, k.Key.Fingerprint())
	}
}

// inDoubt returns the generation that nodes proved when the store had lost it, and the IDs of the
// keys from before the loss that are still in the ring. Each of those may have been burnt in
// between. It returns none once they were burnt or have retired.
func (r Rollout) inDoubt() (proven uint64, keys []string) {
	for _, k := range r.Keys {
		if slices.Contains(r.Doubted, k.Key.Fingerprint()) {
			keys = append(keys, k.Key.ID())
		}
	}
	if len(keys) == 0 {
		return 0, nil
	}
	return r.Proven, keys
}
