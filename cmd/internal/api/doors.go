package api

import (
	"context"
	"net/http"
	"net/url"
	"time"
)

// Doors is GET /v1/doors. It says what makes a name absent, certificate or not, for nodes that are
// connected to this replica.
type Doors struct {
	Replica string `json:"replica"`
	Doors   []Door `json:"doors"`          // Doors are 20 at most.
	More    int    `json:"more,omitempty"` // More are not listed.
	// Remembered is until when the replica remembers that neither the name nor its wildcard has a
	// certificate. If it is zero, the replica would look.
	Remembered time.Time `json:"remembered_until,omitzero"`
}

// Door is one reason for one node.
type Door struct {
	Node     string `json:"node"`
	Identity string `json:"identity,omitempty"`
	Replica  string `json:"replica"`
	Asked    string `json:"asked"` // Asked is the spelling of the name that is refused.
	// Why is spelling, wildcard (too many names under it), evicted (removed to make room, until a
	// client comes again) or policy.
	Why   string `json:"why"`
	Words string `json:"words"` // Words are for people.
}

// Doors asks this replica alone.
func (c *Client) Doors(ctx context.Context, name string) (d Doors, err error) {
	return d, c.call(ctx, http.MethodGet, "/v1/doors?name="+url.QueryEscape(name), nil, &d)
}
