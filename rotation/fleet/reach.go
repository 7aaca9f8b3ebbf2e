package fleet

import (
	"context"
	"errors"
	"net"
	"net/url"
	"time"
)

// FindUnreachable calls warn once for each replica that is on another machine and cannot ask this
// one for its nodes, since this one's admin API listens on loopback. It looks at replicas as they
// turn up, and again at one that gives another address, until ctx ends. It needs [Config.Peers].
func (c *Coordinator) FindUnreachable(ctx context.Context, warn func(Peer)) error {
	n := newNeighbours(c.Peers, c.cfg.Peers.Reach, warn)
	tick := time.NewTicker(reachEvery)
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

// neighbours judges whether replicas are on this machine.
type neighbours struct {
	peers func() []Peer
	reach func(context.Context, Peer) error
	warn  func(Peer)

	known  map[string]string    // known are the replicas that were judged, with their addresses.
	silent map[string]time.Time // silent says when one that did not answer had been heard of.
}

func newNeighbours(peers func() []Peer, reach func(context.Context, Peer) error, warn func(Peer)) *neighbours {
	return &neighbours{
		peers: peers, reach: reach, warn: warn, known: map[string]string{}, silent: map[string]time.Time{},
	}
}

// look judges the replicas that are new. A replica that gives a loopback address is on this
// machine if it answers there. If another one answers, or nobody although the replica is heard of,
// it is on another machine.
func (n *neighbours) look(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, reachWithin)
	defer cancel()
	for _, p := range n.peers() {
		if p.Admin == "" || n.known[p.Replica] == p.Admin {
			continue
		}
		if onLoopback(p.Admin) {
			err := n.reach(ctx, p)
			since, before := n.silent[p.Replica]
			switch {
			case ctx.Err() != nil:
				return
			case err == nil:
				n.judge(p)
				continue
			case errors.Is(err, ErrAnotherReplica):
			case !before || !p.At.After(since): // it may have ended just now
				n.silent[p.Replica] = p.At
				continue
			}
		}
		n.judge(p)
		n.warn(p)
	}
}

// judge notes that nothing is to be found out about a replica, as long as its address stays.
func (n *neighbours) judge(p Peer) {
	n.known[p.Replica] = p.Admin
	delete(n.silent, p.Replica)
}

// onLoopback reports whether the URL leads to the machine of whoever uses it.
func onLoopback(admin string) bool {
	u, err := url.Parse(admin)
	if err != nil {
		return false
	}
	ip := net.ParseIP(u.Hostname())
	return u.Port() != "" && (u.Hostname() == "localhost" || ip != nil && ip.IsLoopback())
}
