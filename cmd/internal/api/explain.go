package api

import "time"

// ExplainQuery is what GET /v1/explain is asked. It names a connected node, an identity, or
// neither.
type ExplainQuery struct{ Name, Node, Identity string }

// Explanation says which certificate a server name gets, from where, and why not another.
type Explanation struct {
	Asked string `json:"asked"`
	// Name is as it is looked up, and empty if Asked is no name of a certificate.
	Name    string `json:"name,omitempty"`
	Verdict string `json:"verdict"` // Verdict is for people.
	// Found is yes, no, or unknown if it could not be looked up. Then nodes keep what they have.
	Found  string `json:"found"`
	Denied string `json:"denied,omitempty"`
	// Cert is what is served under the name, or would be.
	Cert *Cert `json:"certificate,omitempty"`
	// Second is the RSA certificate beside Cert, for clients that cannot do ECDSA.
	Second *Cert `json:"second,omitempty"`
	// Looked is where it was looked for, in this order.
	Looked []Looked `json:"looked"`
	Chain  *Chain   `json:"chain,omitempty"` // Chain is nil if no listener is served.
	// Holders have asked for it, in whatever spelling.
	Holders []Holder `json:"nodes"`
	// Silent are replicas that did not answer which of their nodes hold it.
	Silent []string `json:"silent,omitempty"`
	// Doors make the name absent just now for connected nodes, certificate or not. They are 20 at
	// most. MoreDoors are not listed.
	Doors     []Door `json:"doors,omitempty"`
	MoreDoors int    `json:"more_doors,omitempty"`
	// Remembered are the replicas that remember just now that there is no certificate.
	Remembered []Remembered `json:"remembered,omitempty"`
	At         time.Time    `json:"at"`
}

// Remembered is an absence that a replica remembers. It looks again at that time, or as soon as it
// hears that the name has changed.
type Remembered struct {
	Replica string    `json:"replica"`
	Until   time.Time `json:"until"`
}

// Chain is the filter chain of the listener in which clients land that send the name.
type Chain struct {
	// Kind is eager, on-demand, or unknown if the pins were not read yet.
	Kind string `json:"kind"`
	// Host is whose eager chain it is: the name, or a wildcard above it.
	Host  string `json:"host,omitempty"`
	By    string `json:"by,omitempty"` // By is what makes that host eager: pin, config or match.
	Words string `json:"words"`        // Words are for people.
}

// Looked is a place where a certificate was looked for.
type Looked struct {
	Name   string `json:"name"`   // Name is the server name, or its wildcard.
	Source string `json:"source"` // Source is directory or store.
	// Outcome is used, absent, shadowed (it is there, and an earlier one wins), unreadable (and so
	// ends the search) or behind (not reached).
	Outcome string `json:"outcome"`
	Words   string `json:"words,omitempty"`
}

// Holder is a node that has asked for the certificate.
type Holder struct {
	Node     string `json:"node"`
	Identity string `json:"identity,omitempty"`
	Replica  string `json:"replica"`
	Secret
}
