package api

import "time"

// Troubles is GET /v1/troubles: what nodes that are connected to that very replica say, or do not say, of their secrets.
type Troubles struct {
	Replica  string    `json:"replica"`
	Troubles []Trouble `json:"troubles"` // 20 at most
	More     int       `json:"more,omitempty"`
}

// Trouble is a secret that some nodes do not have as they should, or had not, and have proved by now that they do. A node counts once for a secret, under the worst of its states.
type Trouble struct {
	Name string `json:"name"`
	// State is one of those of [Secret]: refused, stand-in, in doubt, proved; or stuck (the nodes must be restarted), no ring (they asked for one, and
	// have accepted none).
	State string    `json:"state"`
	Nodes int       `json:"nodes"` // how many
	Node  string    `json:"node"`  // one of them
	Words string    `json:"words,omitempty"`
	Since time.Time `json:"since"` // of the first of them
}
