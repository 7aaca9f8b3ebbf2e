package api

import (
	"context"
	"net/http"
	"net/url"
	"time"
)

// Grants is GET /v1/grants. It says who received a ticket key or a certificate, as far as that is
// known, and who may.
type Grants struct {
	Replica string `json:"replica"`
	What    string `json:"what"`            // What is the ID of the key, or the name.
	Scope   string `json:"scope,omitempty"` // Scope is the key's.
	Words   string `json:"words"`           // Words say for people what became of it.
	// Received are nodes that were sent it and are connected, or that are away and accepted it.
	Received []Received `json:"received"`
	// Open says that there is no policy, so whoever can connect may have it.
	Open bool      `json:"open"`
	May  []MayHave `json:"may"` // May are the rules of the policy that grant it.
	// Recorded are the lines of the audit log that name it, oldest first, of the newest 10000.
	Recorded []GrantLine `json:"recorded"`
	Unknown  []string    `json:"unknown"`          // Unknown is what this answer cannot say.
	Silent   []string    `json:"silent,omitempty"` // Silent are replicas that did not answer.
	At       time.Time   `json:"at"`
}

// Received is a node that received it. Replica is where it is connected, which may be one that did
// not answer. It is empty for a node that is away.
type Received struct {
	Node     string    `json:"node"`
	Identity string    `json:"identity,omitempty"`
	Replica  string    `json:"replica,omitempty"`
	Name     string    `json:"name"` // Name is what carried it, such as tickets/default.
	Version  string    `json:"version"`
	State    string    `json:"state"`
	At       time.Time `json:"at,omitzero"`
}

// MayHave is a rule of the policy.
type MayHave struct {
	Rule     int      `json:"rule"` // Rule is its number. The first one is 1.
	Identity string   `json:"identity"`
	Nodes    []string `json:"nodes,omitempty"`
}

// GrantLine is a line of the audit log.
type GrantLine struct {
	Number uint64    `json:"n"`
	At     time.Time `json:"at"`
	What   string    `json:"what"`
	Actor  string    `json:"actor,omitempty"`
	Nodes  int       `json:"nodes,omitempty"` // Nodes counts those that had accepted.
	Why    string    `json:"why,omitempty"`
}

// GrantsQuery has the ID of a key, or the name of a certificate. Here asks for the streams of this
// replica alone.
type GrantsQuery struct {
	Key, Cert string
	Here      bool
}

// Grants returns who received a key or a certificate, and who may.
func (c *Client) Grants(ctx context.Context, q GrantsQuery) (g Grants, err error) {
	v := url.Values{}
	if q.Key != "" {
		v.Set("key", q.Key)
	}
	if q.Cert != "" {
		v.Set("cert", q.Cert)
	}
	if q.Here {
		v.Set("here", "")
	}
	return g, c.call(ctx, http.MethodGet, "/v1/grants?"+v.Encode(), nil, &g)
}
