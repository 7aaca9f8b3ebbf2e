package rotation

import "slices"

// Nodes prove that the store lost writes, and no replica remembers them: the ring was put back, and every mark with it. A claim of one node must not cost a
// fleet its keys, so those that are stored go on ([Rollout.Next] lifts their generation). But one of them may have been burnt since. That is said until it is
// settled.

// doubt notes which keys are in the ring although nodes prove a later one.
func (r *Rollout) doubt(proven uint64) {
	r.Proven, r.Doubted = proven, nil
	for _, k := range r.Keys {
		r.Doubted = append(r.Doubted, k.Key.Fingerprint())
	}
}

// Doubt is the generation that nodes proved when the store had lost it, and the IDs of the keys from before the loss that are still in the ring: each may
// have been burnt in between. None: there is no doubt, since they were burnt or have retired.
func (r Rollout) Doubt() (proven uint64, keys []string) {
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
