package daemon

import (
	"context"
	"errors"
	"log/slog"
	"net/url"
	"time"

	"github.com/lockstep-tls/lockstep/cmd/internal/admin"
	"github.com/lockstep-tls/lockstep/cmd/internal/api"
	"github.com/lockstep-tls/lockstep/cmd/internal/config"
	"github.com/lockstep-tls/lockstep/rotation"
)

// neighbours warns of replicas that cannot ask this one for its nodes, since its admin API listens on loopback and they are on other machines.
type neighbours struct {
	self  string // URL of this replica's admin API
	peers func() []rotation.Peer
	ask   func(context.Context, rotation.Peer) error
	log   *slog.Logger

	known  map[string]bool      // replicas that were judged
	silent map[string]time.Time // when one that did not answer had been heard of
}

func (d *Daemon) neighbours() *neighbours {
	return &neighbours{self: d.self, peers: d.rolls.Peers, log: d.log, known: map[string]bool{}, silent: map[string]time.Time{}, ask: func(ctx context.Context, p rotation.Peer) error {
		_, err := admin.AskPeer(ctx, d.peers, p, api.NodesQuery{Node: d.data.Replica}) // of no node: the answer shall be short
		return err
	}}
}

// run looks at replicas as they turn up, until ctx ends.
func (n *neighbours) run(ctx context.Context) error {
	tick := time.NewTicker(10 * time.Second) // as often as they are heard of
	defer tick.Stop()
	for {
		n.look(ctx)
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// look judges the replicas that are new. One that gives a loopback address is on this machine if it answers there; if another does, or nobody although it is
// heard of, it is not.
func (n *neighbours) look(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	for _, p := range n.peers() {
		if n.known[p.Replica] || p.Admin == "" {
			continue
		}
		if onLoopback(p.Admin) {
			err := n.ask(ctx, p)
			since, before := n.silent[p.Replica]
			switch {
			case ctx.Err() != nil:
				return
			case err == nil:
				n.known[p.Replica] = true
				continue
			case errors.Is(err, admin.ErrAnotherReplica):
			case !before || !p.At.After(since): // it may have ended a moment ago
				n.silent[p.Replica] = p.At
				continue
			}
		}
		n.known[p.Replica] = true
		n.log.Warn("another replica is on another machine, as it seems, and cannot ask this one for its nodes, since this one's admin API listens on loopback: "+
			"set admin_listen (--admin-listen) to an address that the other replicas reach", "replica", p.Replica, "its_admin", p.Admin, "admin_listen", n.self)
	}
}

// onLoopback: the URL leads to the machine of who uses it.
func onLoopback(admin string) bool {
	u, err := url.Parse(admin)
	return err == nil && config.Loopback(u.Host)
}
