package api

import "time"

// Replica is one lockstepd on the store, as another one or itself knows it.
type Replica struct {
	Replica string `json:"replica"`
	// Version is earlier for a replica that does not say which it has. It is empty for one that has
	// just come.
	Version string `json:"version"`
	// State is here (it answers this), live, stopped (on purpose), unheard (of, since some seconds)
	// or missing.
	State string `json:"state"`
	// Since is when it started. For one that has stopped or is missing it is when it was heard of
	// last.
	Since time.Time `json:"since"`
	Admin string    `json:"admin,omitempty"` // Admin is the address that it gave for its admin API.
	// Answers reports that it has just answered there. If it has not, Silent says why.
	Answers bool   `json:"answers"`
	Silent  string `json:"silent,omitempty"`
	// SkewSeconds is how far the store's clock is ahead of its own. It is missing if that is not
	// known.
	SkewSeconds *float64 `json:"skew_seconds,omitempty"`
	// MoreProblems counts those of its problems that are not listed.
	MoreProblems int `json:"more_problems,omitempty"`
}

// These are the values of State in [Replica].
const (
	ReplicaHere    = "here"
	ReplicaLive    = "live"
	ReplicaUnheard = "unheard"
	ReplicaStopped = "stopped"
	ReplicaMissing = "missing"
)
