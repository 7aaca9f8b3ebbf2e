package admin

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/lockstep-tls/lockstep/cmd/internal/api"
	"github.com/lockstep-tls/lockstep/rotation"
)

// A replica that does not answer within this is named, and the list comes without what only it knows.
const askPeer = 2 * time.Second

// ask has the other replicas tell what they know of the nodes that are connected to them, and puts it into v. It returns those that did not.
func (a *admin) ask(ctx context.Context, v *fleet, only string) (silent []string) {
	ctx, cancel := context.WithTimeout(ctx, askPeer)
	defer cancel()
	var mu sync.Mutex
	var wg sync.WaitGroup
	for _, p := range a.Rollouts.Peers() {
		wg.Go(func() {
			nodes, err := a.askOne(ctx, p, only)
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

func (a *admin) askOne(ctx context.Context, p rotation.Peer, only string) ([]api.Node, error) {
	if p.Admin == "" {
		return nil, fmt.Errorf("its admin API is on a socket; ask it there")
	}
	c := api.Client{Base: p.Admin, HTTP: &http.Client{Transport: a.PeerTransport}}
	n, err := c.NodesHere(ctx, only)
	return n.Nodes, err
}

// elsewhere takes over what another replica knows of a node that is connected to it.
func (f *fleet) elsewhere(replica string, n api.Node) {
	have := f.row(n.Node)
	if have.Replica != "" { // it is connected here, too: two nodes under one id, or one that has just moved
		have.Secrets = append(have.Secrets, n.Secrets...)
		return
	}
	worse(have, n.State)
	have.Replica, have.Identity, have.Remote, have.Since, have.Secrets = replica, n.Identity, n.Remote, n.Since, n.Secrets
}
