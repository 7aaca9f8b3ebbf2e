package api

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// Events is GET /v1/journal. It is one page of what happened, the oldest first.
type Events struct {
	Replica string `json:"replica"` // Replica is the one that answers.
	// Since and Until are what was asked for. Zone is the time zone of the client, where the
	// command line has added it.
	Since time.Time `json:"since,omitzero"`
	Until time.Time `json:"until,omitzero"`
	Zone  string    `json:"zone,omitempty"`

	Events []Event `json:"events"`
	// Next is EventsQuery.After for the next page. Without it this is the last page.
	Next string `json:"next,omitempty"`
	// Replicas are those whose records the answer has. Silent are those that did not answer.
	Replicas []string `json:"replicas"`
	Silent   []string `json:"silent,omitempty"`
}

// Event is one thing that happened.
type Event struct {
	At   time.Time `json:"at"`
	Kind string    `json:"kind"`
	Node string    `json:"node"` // Node is the node's id, with the kinds that begin with node.
	// Name is the secret, the host, the file, the replica or the kind that it is about.
	Name string `json:"name"`
	Text string `json:"text"` // Text says it in words.

	Scope   string `json:"scope,omitempty"`
	Replica string `json:"replica"` // Replica is the one that wrote it down.
	// Version is that of the ring or certificate.
	Version  string `json:"version,omitempty"`
	Phase    string `json:"phase,omitempty"` // Phase is the step of a rotation, as in its history.
	Rotation uint64 `json:"rotation,omitempty"`
	By       string `json:"by,omitempty"`  // By is who asked for it.
	Seq      uint64 `json:"seq,omitempty"` // Seq is its number at the replica.
}

// EventsQuery chooses what GET /v1/journal returns. Empty fields choose nothing.
type EventsQuery struct {
	Since, Until time.Time // Until itself is not among them.
	Node         string
	Host         string // Host is a server name, or a wildcard.
	Kind         string // Kind is a kind, or a part of one between dashes: node, cert, away.
	After        string // After is Events.Next of the page before.
	Limit        int    // Limit is 1 to MaxPage. 0 stands for MaxPage.
	// Here leaves out what other replicas wrote down.
	Here bool
}

// Events returns a page of what happened.
func (c *Client) Events(ctx context.Context, q EventsQuery) (e Events, err error) {
	v := url.Values{}
	for key, val := range map[string]string{"node": q.Node, "host": q.Host, "kind": q.Kind, "after": q.After} {
		if val != "" {
			v.Set(key, val)
		}
	}
	for key, t := range map[string]time.Time{"since": q.Since, "until": q.Until} {
		if !t.IsZero() {
			v.Set(key, t.Format(time.RFC3339Nano))
		}
	}
	if q.Limit > 0 {
		v.Set("limit", strconv.Itoa(q.Limit))
	}
	if q.Here {
		v.Set("here", "")
	}
	return e, c.call(ctx, http.MethodGet, "/v1/journal?"+v.Encode(), nil, &e)
}
