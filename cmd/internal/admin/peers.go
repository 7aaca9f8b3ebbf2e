package admin

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/lockstep-tls/lockstep/cmd/internal/api"
	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/rotation"
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

// heard is what another replica said of the nodes that are connected to it.
type heard struct {
	replica string
	nodes   []api.Node
}

// ask asks the other replicas for the nodes that are connected to them. The answers are in the
// order of their names. It returns those that did not answer.
func (a *admin) ask(ctx context.Context, q api.NodesQuery) (all []heard, silent []string) {
	ctx, cancel := context.WithTimeout(ctx, askPeer)
	defer cancel()
	peers := a.peers()
	var mu sync.Mutex
	silent = a.cfg.Rollouts.AskPeers(ctx, func(ctx context.Context, p replicas.Peer) error {
		nodes, err := peers.Nodes(ctx, p, q)
		if err != nil {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		all = append(all, heard{p.Replica, nodes})
		return nil
	})
	slices.SortFunc(all, func(x, y heard) int { return cmp.Compare(x.replica, y.replica) })
	slices.Sort(silent)
	return all, silent
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

// elsewhere adds what another replica knows of a node that is connected to it. A node that has the
// ring of a scope here and there is two nodes under one id. It may be one that has just moved, as
// long as both replicas call it connected: rotations wait for both.
func (f *fleet) elsewhere(replica string, n api.Node) {
	id := idOf(n.Node)
	if f.ids[n.Node] != "" {
		id = f.ids[n.Node]
	}
	if !hasRing(n) {
		have := f.loose[id]
		if have == nil {
			have = &api.Node{Node: id, State: "live", Secrets: []api.Secret{}}
			f.loose[id] = have
		}
		join(have, replica, n)
		return
	}
	name := n.Node
	for nr := 1; f.rows[name] != nil && shareRing(*f.rows[name], n); nr++ {
		name = rotation.Member{Node: id, Nr: nr}.Name()
	}
	for _, s := range n.Secrets {
		if _, ring := keysource.RingScope(s.Name); ring {
			switch s.State {
			case stateAccepted, stateProved, stateDoubt:
				f.rings[id] = true
			case stateSent, stateNoRing:
				f.lacks[id] = true
			}
		}
	}
	join(f.row(id, name), replica, n)
}

func hasRing(n api.Node) bool { return shareRing(n, n) }

// shareRing reports whether a and b have the ring of one scope.
func shareRing(a, b api.Node) bool {
	return slices.ContainsFunc(a.Secrets, func(s api.Secret) bool {
		_, ring := keysource.RingScope(s.Name)
		return ring && slices.ContainsFunc(b.Secrets, func(other api.Secret) bool { return other.Name == s.Name })
	})
}

// join adds to a node what a replica knows of it.
func join(have *api.Node, replica string, n api.Node) {
	for _, s := range n.Secrets {
		have.Secrets = add(have.Secrets, s)
	}
	for _, l := range n.Listeners {
		have.Listeners = add(have.Listeners, l)
	}
	worse(have, n.State)
	connect(have, replica, n)
}

// connect notes a replica to which the node is connected. The first one gives its remote address,
// and the time, unless a roster did.
func connect(have *api.Node, replica string, n api.Node) {
	if !slices.Contains(have.Replicas, replica) {
		have.Replicas = append(have.Replicas, replica)
	}
	if have.Replica == "" {
		have.Replica, have.Identity, have.Remote = replica, n.Identity, n.Remote
	}
	if have.Since.IsZero() {
		have.Since = n.Since
	}
}

// settle gives each node the streams that carry no ring. If two nodes have one id, the first that
// is connected gets them, since nobody knows which of the two has them.
func (f *fleet) settle() {
	rows := slices.Sorted(maps.Keys(f.rows))
	for id, loose := range f.loose {
		name := id
		for _, row := range rows {
			if f.ids[row] == id && f.rows[row].Replica != "" {
				name = row
				break
			}
		}
		n := f.row(id, name)
		for _, replica := range loose.Replicas {
			join(n, replica, *loose)
		}
	}
	f.loose = nil
	for _, n := range f.rows {
		if slices.Sort(n.Replicas); len(n.Replicas) < 2 {
			n.Replicas = nil // Replica says it
		}
	}
}
