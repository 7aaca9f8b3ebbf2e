package api

import "time"

// Troubles is GET /v1/troubles. It says what is wrong with secrets of nodes that are connected to
// this replica.
type Troubles struct {
	Replica  string    `json:"replica"`
	Troubles []Trouble `json:"troubles"` // Troubles are 20 at most.
	More     int       `json:"more,omitempty"`
	// Certificates are those by which the nodes prove who they are, if some are near their end.
	Certificates NodeCertificates `json:"certificates,omitzero"`
	// Stale counts the nodes that have an older certificate than the newest for long.
	Stale StaleCertificates `json:"stale,omitzero"`
	// Of are the replicas whose nodes are in here. It is not sent.
	Of []string `json:"-"`
}

// StaleCertificates are those of which nodes have an older version than they should.
type StaleCertificates struct {
	Nodes int `json:"nodes"`
	// IDs are those of the nodes, at most 100. If there are fewer than Nodes, there may be more
	// nodes.
	IDs []string `json:"ids,omitempty"`
	// Node is one of them, and Name the certificate that it has been without for longest.
	Node  string    `json:"node"`
	Name  string    `json:"name"`
	Since time.Time `json:"since"`
}

// NodeCertificates counts the nodes whose own certificate is near its end, or has expired.
type NodeCertificates struct {
	Near    int `json:"near"` // Near have 30 days or a third of the lifetime left.
	Expired int `json:"expired"`
	// NearIDs and ExpiredIDs are those of the nodes, at most 100 each. If there are fewer than Near
	// or Expired, there may be more nodes.
	NearIDs    []string `json:"near_ids,omitempty"`
	ExpiredIDs []string `json:"expired_ids,omitempty"`
	// Node is the one whose certificate ends first, at NotAfter.
	Node     string    `json:"node"`
	NotAfter time.Time `json:"not_after"`
}

// Trouble is a secret that some nodes do not have as they should. It is also one that they did not
// have, until they proved that they do. A node counts once for a secret, under the worst of its
// states.
type Trouble struct {
	Name string `json:"name"`
	// State is one of those of [Secret]: refused, stand-in, in doubt, proved. Or it is stuck (the
	// nodes must be restarted) or no ring (they asked for one, and have accepted none).
	State string    `json:"state"`
	Nodes int       `json:"nodes"` // Nodes counts them.
	Node  string    `json:"node"`  // Node is one of them.
	Words string    `json:"words,omitempty"`
	Since time.Time `json:"since"` // Since is since when the first of them has this state.
}
