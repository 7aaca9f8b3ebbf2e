package keysource

import "time"

// Outcome is the state of a changed certificate with one kind of node. One node of a kind gets it
// before the others.
type Outcome uint8

const (
	Trying   Outcome = iota // one node has it, or is about to
	Accepted                // that node took it; all others of its kind get it
	Refused                 // that node refused it; no other of its kind gets it
	Silent                  // that node did not answer in time; all others of its kind get it
)

// String returns the outcome as records, metrics and logs name it.
func (o Outcome) String() string { return [...]string{"trying", "accepted", "refused", "silent"}[o] }

// Verdict is what the fleet knows of a changed certificate with one kind of node.
type Verdict struct {
	Outcome Outcome
	// Ours reports that the trial goes on, and that the node that goes first is connected to this
	// replica.
	Ours  bool
	Node  string // the node that goes first
	Words string // the node's own words, with Refused
	Since time.Time
}
