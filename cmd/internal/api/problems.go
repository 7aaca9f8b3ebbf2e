package api

import "time"

// Problem is one thing that is not well.
type Problem struct {
	// Code names the kind of the problem. It stays the same from version to version, and
	// docs/failures.md has a section for each.
	Code     string   `json:"code"`
	Severity Severity `json:"severity"`
	// Since is when the problem began, or when this replica saw it first. It remembers that over a
	// restart.
	Since time.Time `json:"since"`
	Text  string    `json:"text"`
	Next  string    `json:"next,omitempty"` // Next is the next step: what to type or to do.
	// Where names what the problem is about: a scope, a node, a certificate. It is empty for
	// lockstepd itself. Two problems of one code differ in it.
	Where string `json:"where,omitempty"`
	// Count is of how many things, such as nodes, the problem tells. 0 stands for one.
	Count int `json:"count,omitempty"`
	// Replicas are those that have the problem, if it is not only the one that answers. Most
	// problems are of the fleet, and have none.
	Replicas []string `json:"replicas,omitempty"`
	// Acknowledged says who knows about it. Such a problem does not make the status degraded.
	Acknowledged *Ack `json:"acknowledged,omitempty"`
}

// Ack says that an operator knows about a problem, until it ends, gets worse, or Until has come.
type Ack struct {
	By    string    `json:"by"`
	Why   string    `json:"why,omitempty"`
	At    time.Time `json:"at"`
	Until time.Time `json:"until"`
}

// Problems is GET /v1/problems. It says what is not well at this replica.
type Problems struct {
	Replica string `json:"replica"`
	Version string `json:"version"`
	// SkewSeconds is how far the store's clock is ahead of this replica's.
	SkewSeconds float64 `json:"skew_seconds"`
	// Problems are the 20 most severe. Those that are acknowledged come last. More counts the
	// others.
	Problems []Problem `json:"problems"`
	More     int       `json:"more,omitempty"`
}

// AckRequest is POST /v1/problems/{code}/ack.
type AckRequest struct {
	By  string `json:"by,omitempty"`
	Why string `json:"why,omitempty"`
	// Seconds is for how long. 0 takes an acknowledgement back.
	Seconds float64 `json:"seconds"`
}

// Severity says what is at stake.
type Severity string

const (
	// Critical means that clients are turned away or soon will be, that keys or certificates are in
	// use that should not be, or that no key can rotate.
	Critical Severity = "critical"
	// Warning means that something does not work, and clients do not notice yet. Look at it today.
	Warning Severity = "warning"
	// Notice means that something is worth knowing, and that nobody need do anything. It makes no
	// status degraded.
	Notice Severity = "notice"
)

// Severities are all of them, the worst first.
var Severities = []Severity{Critical, Warning, Notice}
