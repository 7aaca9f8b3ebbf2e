package api

import (
	"context"
	"net/http"
	"net/url"
	"time"
)

// Hosts is GET /v1/hosts. It lists the hosts that have a filter chain of their own in the listener
// that lockstepd serves.
type Hosts struct {
	Listener string `json:"listener"` // Listener is its name.
	Max      int    `json:"max"`      // Max is how many hosts may be eager.
	Hosts    []Host `json:"hosts"`
	More     int    `json:"more,omitempty"` // More matched beyond Max, and are not listed.
	// Silent are replicas that did not answer. What their nodes serve is not known.
	Silent []string `json:"silent,omitempty"`
	// Unknown are nodes of whose listener it is not known which hosts it has. They refused the
	// present listener, or were not sent it yet.
	Unknown []string `json:"unknown,omitempty"`
}

// Host is an eager host, or one that was.
type Host struct {
	Name string `json:"name"`
	// State is one of these:
	//   - eager: it has a chain of its own;
	//   - beyond: it goes on demand, and waits for a place among Max;
	//   - leaving: it is no longer eager, and some node still serves its chain;
	//   - on-demand: it is not eager, and no known node serves a chain of it.
	State string    `json:"state"`
	By    string    `json:"by,omitempty"` // By is what makes it eager: pin, config or match.
	Since time.Time `json:"since,omitzero"`
	Who   string    `json:"who,omitempty"` // Who pinned it.
	// Certificate is the version of what the host is served with, and From the name that it stands
	// under. If they are empty, there is no certificate, and the clients of this host alone are
	// refused.
	Certificate string `json:"certificate,omitempty"`
	From        string `json:"from,omitempty"`
	Context     string `json:"context,omitempty"` // Context is as in Cert.
	// Second is the RSA certificate beside Certificate. Its Name is what it stands under. A chain
	// that names both binds tickets to the contexts of both.
	Second  *Cert  `json:"second,omitempty"`
	Problem string `json:"problem,omitempty"`
	Note    string `json:"note,omitempty"` // Note says more about the state, for people.
	Nodes   int    `json:"nodes"`          // Nodes counts those that have its chain.
	// Serving names those nodes, for a host that is leaving. Nodes that are away are marked.
	Serving []string `json:"serving,omitempty"`
}

// Listening is GET /v1/listening. It says what the nodes that are connected to this replica, or
// were, answered to the listener.
type Listening struct {
	Nodes []ListeningNode `json:"nodes"`
}

// ListeningNode is one node of a [Listening].
type ListeningNode struct {
	Node    string `json:"node"`
	Version string `json:"version"` // Version is the last one that it accepted, or empty.
	Refused string `json:"refused,omitempty"`
	// Away reports that it is not connected, and was less than a lease ago. It may go on serving.
	Away bool `json:"away,omitempty"`
}

// Hosts lists the eager hosts.
func (c *Client) Hosts(ctx context.Context) (h Hosts, err error) {
	return h, c.call(ctx, http.MethodGet, "/v1/hosts", nil, &h)
}

// PinHost makes a host eager.
func (c *Client) PinHost(ctx context.Context, name string) (h Host, err error) {
	return h, c.call(ctx, http.MethodPut, "/v1/hosts/"+url.PathEscape(name), nil, &h)
}

// UnpinHost removes a pin, and returns which nodes still serve the host's chain.
func (c *Client) UnpinHost(ctx context.Context, name string) (h Host, err error) {
	return h, c.call(ctx, http.MethodDelete, "/v1/hosts/"+url.PathEscape(name), nil, &h)
}

// Listening asks this replica alone.
func (c *Client) Listening(ctx context.Context) (l Listening, err error) {
	return l, c.call(ctx, http.MethodGet, "/v1/listening", nil, &l)
}
