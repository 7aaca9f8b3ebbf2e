package keysource

import "time"

// Outcome says how far a changed certificate has come with one kind of node, of which one node gets it before the others.
type Outcome uint8

const (
	Trying   Outcome = iota // one node has it, or is about to
	Accepted                // that node took it: all others of its kind get it
	Refused                 // that node refused it: no other of its kind gets it
	Silent                  // that node did not answer in time: all others of its kind get it
)

// String names the outcome as records, metrics and logs do.
func (o Outcome) String() string { return [...]string{"trying", "accepted", "refused", "silent"}[o] }

// Verdict is what the fleet knows of a changed certificate with one kind of node.
type Verdict struct {
	Outcome Outcome
	Ours    bool   // Ours: the trial goes on, and the node that goes first is connected to this replica.
	Node    string // Node goes first.
	Words   string // Words are the node's, with Refused.
	Since   time.Time
}
