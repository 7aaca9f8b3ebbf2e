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
	"github.com/lockstep-tls/lockstep/rotation"
)

const (
	// A replica that does not answer within this is named, and the list comes without what only it
	// knows.
	askPeer = 2 * time.Second
	// maxPeerAnswer bounds an answer, in bytes: 100 000 nodes with a ring each stay below it.
	maxPeerAnswer = 64 << 20
)

// ErrAnotherReplica: at the address that a replica gave for its admin API, another one answers.
var ErrAnotherReplica = errors.New("another replica answers there")

// ask has the other replicas tell what they know of the nodes that are connected to them, and puts
// it into v. It returns those that did not.
func (a *admin) ask(ctx context.Context, v *fleet, q api.NodesQuery) (silent []string) {
	ctx, cancel := context.WithTimeout(ctx, askPeer)
	defer cancel()
	var mu sync.Mutex
	var wg sync.WaitGroup
	for _, p := range a.cfg.Rollouts.Peers() {
		wg.Go(func() {
			nodes, err := AskPeer(ctx, a.cfg.PeerTransport, p, q)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				silent = append(silent, fmt.Sprintf("%s: %v", p.Replica, err))
				return
			}
			for _, n := range nodes {
				v.elsewhere(p.Replica, n)
			}
		})
	}
	wg.Wait()
	return silent
}

// AskPeer asks another replica for those nodes of q that are connected to it. What anybody else
// answers at its address is [ErrAnotherReplica]; a redirect is not followed, and an answer of more
// than 64 MiB is refused. A nil transport is [http.DefaultTransport].
func AskPeer(ctx context.Context, transport http.RoundTripper, p rotation.Peer, q api.NodesQuery) ([]api.Node, error) {
	c, err := clientOf(p, transport)
	if err != nil {
		return nil, err
	}
	n, err := c.NodesHere(ctx, q)
	if err == nil {
		err = sameReplica(p, n.Replica)
	}
	if err != nil {
		return nil, err
	}
	return n.Nodes, nil
}

// PeerMute asks another replica whether it cannot write to the store that it is there, as AskPeer
// asks for nodes.
func PeerMute(ctx context.Context, transport http.RoundTripper, p rotation.Peer) (bool, error) {
	c, err := clientOf(p, transport)
	if err != nil {
		return false, err
	}
	pulse, err := c.Pulse(ctx)
	if err == nil {
		err = sameReplica(p, pulse.Replica)
	}
	return err == nil && pulse.Mute, err
}

func clientOf(p rotation.Peer, transport http.RoundTripper) (api.Client, error) {
	if p.Admin == "" {
		return api.Client{}, errors.New("its admin API is on a socket; ask it there")
	}
	return api.Client{Base: p.Admin, HTTP: &http.Client{
		Transport: bounded{transport},
		// what redirects is no replica
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

func sameReplica(p rotation.Peer, answered string) error {
	if answered == p.Replica {
		return nil
	}
	return fmt.Errorf("%w: at %s, which %s gave as its own, %q did; is that address of its own machine only? Set its admin_listen to one that the others reach",
		ErrAnotherReplica, p.Admin, p.Replica, answered)
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

// elsewhere takes over what another replica knows of a node that is connected to it.
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
	have.Replica, have.Identity, have.Remote, have.Since, have.Secrets, have.Listeners = replica, n.Identity, n.Remote, n.Since, n.Secrets, n.Listeners
}
