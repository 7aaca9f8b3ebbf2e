package admin

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/lockstep-tls/lockstep/cmd/internal/api"
	replicas "github.com/lockstep-tls/lockstep/rotation/fleet"
)

const (
	// askPeer bounds how long another replica's answer is waited for. One that does not answer is
	// named, and the list lacks what only it knows.
	askPeer = 2 * time.Second
	// maxPeerAnswer bounds an answer, in bytes: 100 000 nodes with a ring each stay below it.
	maxPeerAnswer = 64 << 20
)

// Peers reaches the admin APIs of other replicas. It is a [replicas.Peers]. What anybody else
// answers at a replica's address is [replicas.ErrAnotherReplica]. A redirect is not followed, and
// an answer of more than 64 MiB is refused.
type Peers struct {
	Self      string            // Self is this replica's name.
	Transport http.RoundTripper // Transport is http.DefaultTransport if it is nil.
	// Prove returns the proof that a request comes from this replica. It is nil where nobody asks
	// for one.
	Prove func(method, uri, to string) string
}

func (a *admin) peers() Peers {
	p := Peers{Self: a.cfg.Replica, Transport: a.cfg.PeerTransport}
	if a.cfg.Access != nil {
		p.Prove = a.cfg.Access.Prove
	}
	return p
}

// ask puts into v what the other replicas know of the nodes that are connected to them. It returns
// those that did not answer.
func (a *admin) ask(ctx context.Context, v *fleet, q api.NodesQuery) (silent []string) {
	ctx, cancel := context.WithTimeout(ctx, askPeer)
	defer cancel()
	peers := a.peers()
	var mu sync.Mutex
	return a.cfg.Rollouts.AskPeers(ctx, func(ctx context.Context, p replicas.Peer) error {
		nodes, err := peers.Nodes(ctx, p, q)
		if err != nil {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		for _, n := range nodes {
			v.elsewhere(p.Replica, n)
		}
		return nil
	})
}

// Nodes asks another replica for those nodes of q that are connected to it.
func (o Peers) Nodes(ctx context.Context, p replicas.Peer, q api.NodesQuery) ([]api.Node, error) {
	c, err := o.client(p)
	if err != nil {
		return nil, err
	}
	n, err := c.NodesHere(ctx, q)
	if err == nil {
		err = sameReplica(p, n.Replica)
	} else {
		err = refusedBy(p, err)
	}
	if err != nil {
		return nil, err
	}
	return n.Nodes, nil
}

// Reach implements [replicas.Peers]. It asks for a node that there is none of, so that the answer
// is short.
func (o Peers) Reach(ctx context.Context, p replicas.Peer) error {
	_, err := o.Nodes(ctx, p, api.NodesQuery{Node: o.Self})
	return err
}

// Mute implements [replicas.Peers].
func (o Peers) Mute(ctx context.Context, p replicas.Peer) (bool, error) {
	c, err := o.client(p)
	if err != nil {
		return false, err
	}
	pulse, err := c.Pulse(ctx)
	if err == nil {
		err = sameReplica(p, pulse.Replica)
	} else {
		err = refusedBy(p, err)
	}
	return err == nil && pulse.Mute, err
}

// refusedBy looks whether it was another replica than p that refused the request. It knows that by
// its name: what one replica is asked, no other takes.
func refusedBy(p replicas.Peer, err error) error {
	var refused *api.Error
	if errors.As(err, &refused) && refused.Replica != "" && refused.Replica != p.Replica {
		return sameReplica(p, refused.Replica)
	}
	return err
}

func (o Peers) client(p replicas.Peer) (api.Client, error) {
	if p.Admin == "" {
		return api.Client{}, errors.New("its admin API is on a socket; ask it there")
	}
	return api.Client{Base: p.Admin, HTTP: &http.Client{
		Transport: proving{bounded{o.Transport}, o.Prove, p.Replica},
		// CheckRedirect: what redirects is no replica.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

func sameReplica(p replicas.Peer, answered string) error {
	if answered == p.Replica {
		return nil
	}
	return fmt.Errorf("%w: at %s, which %s gave as its own, %q did; is that address of its own machine only? "+
		"Set its admin_listen to one that the others reach",
		replicas.ErrAnotherReplica, p.Admin, p.Replica, answered)
}

// proving adds the proof of this replica to requests to another one.
type proving struct {
	http.RoundTripper
	prove func(method, uri, to string) string
	to    string
}

func (p proving) RoundTrip(r *http.Request) (*http.Response, error) {
	if p.prove != nil {
		r = r.Clone(r.Context())
		r.Header.Set(proofHeader, p.prove(r.Method, r.URL.RequestURI(), p.to))
	}
	return p.RoundTripper.RoundTrip(r)
}

// bounded cuts off answers that are too long.
type bounded struct{ http.RoundTripper }

func (b bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	if b.RoundTripper == nil {
		b.RoundTripper = http.DefaultTransport
	}
	resp, err := b.RoundTripper.RoundTrip(r)
	if err == nil {
		resp.Body = http.MaxBytesReader(nil, resp.Body, maxPeerAnswer)
	}
	return resp, err
}

// elsewhere adds what another replica knows of a node that is connected to it.
func (f *fleet) elsewhere(replica string, n api.Node) {
	id, _, _ := strings.Cut(n.Node, "#")
	if f.ids[n.Node] != "" {
		id = f.ids[n.Node]
	}
	have := f.row(id, n.Node)
	if have.Replica != "" {
		// it is connected here, too: two nodes under one id, or one that has just moved
		for _, s := range n.Secrets {
			have.Secrets = add(have.Secrets, s)
		}
		for _, l := range n.Listeners {
			have.Listeners = add(have.Listeners, l)
		}
		worse(have, n.State)
		return
	}
	worse(have, n.State)
	have.Replica, have.Identity, have.Remote, have.Since, have.Secrets, have.Listeners = replica, n.Identity, n.Remote,
		n.Since, n.Secrets, n.Listeners
}
