package api

import (
	"context"
	"net/http"
	"net/url"
	"time"
)

// Doors is GET /v1/doors: what makes a name absent for nodes that are connected to that very replica, certificate or not.
type Doors struct {
	Replica string `json:"replica"`
	Doors   []Door `json:"doors"`          // 20 at most
	More    int    `json:"more,omitempty"` // not listed
	// Remembered is until when the replica goes by what it remembers, that the name has no certificate of its own, and none of its wildcard's;
	// zero: it would look.
	Remembered time.Time `json:"remembered_until,omitzero"`
}

// Door is one of them.
type Door struct {
	Node     string `json:"node"`
	Identity string `json:"identity,omitempty"`
	Replica  string `json:"replica"`
	Asked    string `json:"asked"` // how the name is spelt that is turned away
	// Why is spelling, wildcard (too many names under it), evicted (removed to make room, until a client comes again) or policy.
	Why   string `json:"why"`
	Words string `json:"words"` // for people
}

// Doors asks that very replica.
func (c *Client) Doors(ctx context.Context, name string) (d Doors, err error) {
	return d, c.call(ctx, http.MethodGet, "/v1/doors?name="+url.QueryEscape(name), nil, &d)
}
