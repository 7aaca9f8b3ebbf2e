package e2e

import "slices"

// ring is a ring as a scripted node got it.
type ring struct {
	version string
	keys    []string // their IDs
}

// answer to a ring: the zero value accepts it.
type answer struct {
	withhold bool
	words    string // refuse it with these
}

// script says how a node answers a ring; held is the one that it accepted last.
type script func(held, next ring) answer

func accept(_, _ ring) answer   { return answer{} }
func withhold(_, _ ring) answer { return answer{withhold: true} }

func refuse(words string) script {
	return func(_, _ ring) answer { return answer{words: words} }
}

// on follows then where the condition holds, and accepts otherwise.
func on(condition func(held, next ring) bool, then script) script {
	return func(held, next ring) answer {
		if held.version != "" && condition(held, next) {
			return then(held, next)
		}
		return answer{}
	}
}

// grows: there is a key that the node does not hold yet. leads: another key than before encrypts.
func grows(held, next ring) bool {
	return slices.ContainsFunc(next.keys, func(k string) bool { return !slices.Contains(held.keys, k) })
}
func leads(held, next ring) bool { return next.keys[0] != held.keys[0] }
