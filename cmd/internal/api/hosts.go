package api

import (
	"context"
	"net/http"
	"net/url"
	"time"
)

// Hosts is GET /v1/hosts: which hosts have a filter chain of their own in the listener that Envoys are served.
type Hosts struct {
	Listener string   `json:"listener"` // its name
	Max      int      `json:"max"`      // eager hosts
	Hosts    []Host   `json:"hosts"`
	More     int      `json:"more,omitempty"`   // matched beyond Max, and not listed
	Silent   []string `json:"silent,omitempty"` // replicas that did not answer: what nodes serve that are connected there is not known
	// Unknown are nodes that have a listener of which it is not known which hosts it has: they have refused, or were not sent yet, what is served now.
	Unknown []string `json:"unknown,omitempty"`
}

// Host is an eager host, or one that was.
type Host struct {
	Name string `json:"name"`
	// State is eager, beyond (it waits for a place among Max, and goes on demand until then), leaving (no longer eager, and some node still serves its
	// chain), or on-demand (not eager, and no node that is known of serves a chain of it).
	State string    `json:"state"`
	By    string    `json:"by,omitempty"` // pin, config, match; what makes it eager
	Since time.Time `json:"since,omitzero"`
	Who   string    `json:"who,omitempty"` // pinned it
	// Certificate is the version of what the host is served with, and From the name that it stands under; empty: there is none, and clients of this host
	// alone are turned away.
	Certificate string   `json:"certificate,omitempty"`
	From        string   `json:"from,omitempty"`
	Context     string   `json:"context,omitempty"` // see Cert.Context
	Problem     string   `json:"problem,omitempty"`
	Note        string   `json:"note,omitempty"`    // for people: what else is to be known of its state
	Nodes       int      `json:"nodes"`             // that have its chain
	Serving     []string `json:"serving,omitempty"` // which; of hosts that are leaving. Those that are away are marked
}

// Listening is GET /v1/listening: what nodes that are connected to that very replica, or were, made of the listener.
type Listening struct {
	Nodes []ListeningNode `json:"nodes"`
}

// ListeningNode is one of them.
type ListeningNode struct {
	Node    string `json:"node"`
	Version string `json:"version"` // accepted last; empty: none
	Refused string `json:"refused,omitempty"`
	Away    bool   `json:"away,omitempty"` // it was connected less than a lease ago, and may go on serving that
}

// Hosts lists the eager hosts.
func (c *Client) Hosts(ctx context.Context) (h Hosts, err error) {
	return h, c.call(ctx, http.MethodGet, "/v1/hosts", nil, &h)
}

// PinHost makes a host eager.
func (c *Client) PinHost(ctx context.Context, name string) (h Host, err error) {
	return h, c.call(ctx, http.MethodPut, "/v1/hosts/"+url.PathEscape(name), nil, &h)
}

// UnpinHost takes a pin away, and tells which nodes still serve the host's chain.
func (c *Client) UnpinHost(ctx context.Context, name string) (h Host, err error) {
	return h, c.call(ctx, http.MethodDelete, "/v1/hosts/"+url.PathEscape(name), nil, &h)
}

// Listening asks that very replica.
func (c *Client) Listening(ctx context.Context) (l Listening, err error) {
	return l, c.call(ctx, http.MethodGet, "/v1/listening", nil, &l)
}
