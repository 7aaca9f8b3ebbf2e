package lastgood

import (
	"fmt"
	"slices"

	"github.com/lockstep-tls/lockstep/keysource"
)

// maxSpent is how many keys of a scope are remembered. A copy that is older than so many rotations
// is too old to be used anyway.
const maxSpent = 1000

// spent has the fingerprints of keys that have left a ring, by scope, the latest last. An edge
// that was given another ring must not go back to them.
type spent struct {
	Keys map[string][]string
}

// check refuses a ring with a spent key. The error names the key.
func (s *spent) check(scope string, r keysource.Ring) error {
	for _, k := range r.Keys {
		if slices.Contains(s.Keys[scope], k.Fingerprint()) {
			return fmt.Errorf("%w: key %s was burnt or retired since: the copy is not the last one",
				keysource.ErrBadTicketKey, k.ID())
		}
	}
	return nil
}

// learn notes the keys that are in old and not in now, and reports whether anything changed. A key
// that is in now is not spent, even if it was before: a rollback brings a key back.
func (s *spent) learn(scope string, old, now keysource.Ring) (changed bool) {
	if s.Keys == nil {
		s.Keys = make(map[string][]string)
	}
	all := s.Keys[scope]
	for _, k := range old.Keys {
		if !slices.Contains(now.Keys, k) && !slices.Contains(all, k.Fingerprint()) {
			all, changed = append(all, k.Fingerprint()), true
		}
	}
	before := len(all)
	all = slices.DeleteFunc(all, func(f string) bool {
		return slices.ContainsFunc(now.Keys, func(k keysource.TicketKey) bool { return k.Fingerprint() == f })
	})
	changed = changed || len(all) != before
	if excess := len(all) - maxSpent; excess > 0 {
		all = all[excess:]
	}
	s.Keys[scope] = all
	return changed
}
