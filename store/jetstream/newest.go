package jetstream

import "sync"

// newest remembers the last sequences of subjects of a stream that this process wrote or read: a
// leader that has been cut off and does not know it yet answers from the past, and would take back
// what was acknowledged. It forgets those that were not used for longest once there are too many.
// The zero value is ready.
type newest struct {
	mu         sync.Mutex
	young, old map[place]uint64
}

type place struct{ stream, subject string }

// youngMost is how many subjects are remembered at least: every ring, roster and head, and the
// certificates of the moment.
const youngMost = 10_000

func (n *newest) note(at place, seq uint64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.young == nil || len(n.young) >= youngMost {
		n.young, n.old = make(map[place]uint64), n.young
	}
	n.young[at] = max(seq, n.young[at], n.old[at])
}

// of is 0 for a place that is not known.
func (n *newest) of(at place) uint64 {
	n.mu.Lock()
	defer n.mu.Unlock()
	return max(n.young[at], n.old[at])
}
