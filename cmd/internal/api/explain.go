package api

import "time"

// ExplainQuery is what GET /v1/explain is asked: for a node that is connected, for an identity, or for neither.
type ExplainQuery struct{ Name, Node, Identity string }

// Explanation says which certificate a server name gets, from where, and why not another.
type Explanation struct {
	Asked   string   `json:"asked"`
	Name    string   `json:"name,omitempty"` // as it is looked up; none: it is no server name
	Verdict string   `json:"verdict"`        // for people
	Found   string   `json:"found"`          // yes, no, or unknown: it could not be looked up, and nodes keep what they have
	Denied  string   `json:"denied,omitempty"`
	Cert    *Cert    `json:"certificate,omitempty"` // that is served under it, or would be
	Looked  []Looked `json:"looked"`                // where, in that order
	Chain   *Chain   `json:"chain,omitempty"`       // of the listener; none: no listener is served
	Holders []Holder `json:"nodes"`                 // that have asked for it, whatever the spelling
	Silent  []string `json:"silent,omitempty"`      // replicas that did not answer which of their nodes have
	// Doors make the name absent just now for nodes that are connected, certificate or not: 20 at most, and MoreDoors that are not listed.
	Doors     []Door `json:"doors,omitempty"`
	MoreDoors int    `json:"more_doors,omitempty"`
	// Remembered are the replicas that go by their memory just now, that there is no certificate.
	Remembered []Remembered `json:"remembered,omitempty"`
	At         time.Time    `json:"at"`
}

// Remembered is an absence that a replica remembers: it looks again then, or as soon as it hears that the name has changed.
type Remembered struct {
	Replica string    `json:"replica"`
	Until   time.Time `json:"until"`
}

// Chain is the filter chain of the listener in which clients land that send the name.
type Chain struct {
	Kind  string `json:"kind"`           // eager, on-demand, or unknown: the pins were not read yet
	Host  string `json:"host,omitempty"` // of an eager one, whose it is: the name, or a wildcard above it
	By    string `json:"by,omitempty"`   // pin, config, match; what makes that host eager
	Words string `json:"words"`          // for people
}

// Looked is a place where a certificate was looked for.
type Looked struct {
	Name    string `json:"name"`    // the server name, or its wildcard
	Source  string `json:"source"`  // directory, store
	Outcome string `json:"outcome"` // used, absent, shadowed (it is there, and one before it wins), unreadable (and so ends the search), behind (not reached)
	Words   string `json:"words,omitempty"`
}

// Holder is a node that has asked for the certificate.
type Holder struct {
	Node     string `json:"node"`
	Identity string `json:"identity,omitempty"`
	Replica  string `json:"replica"`
	Secret
}
