package admin

import (
	"context"
	"maps"
	"net/http"
	"slices"
	"sync"

	"github.com/lockstep-tls/lockstep/cmd/internal/api"
	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/lds"
	replicas "github.com/lockstep-tls/lockstep/rotation/fleet"
)

// listening answers another replica.
func (a *admin) listening(*http.Request) (out api.Listening, err error) {
	out.Nodes = []api.ListeningNode{}
	if a.cfg.Listeners != nil {
		out.Nodes = append(out.Nodes, a.cfg.Listeners.Here()...)
	}
	return out, nil
}

// fleetListening returns what the nodes of all replicas serve, and which replicas did not answer.
func (a *admin) fleetListening(ctx context.Context) (nodes []Listening, silent []string) {
	all, silent := peersSay(ctx, a, func(ctx context.Context, c *api.Client) (api.Listening, error) {
		return c.Listening(ctx)
	})
	nodes = a.cfg.Listeners.Here()
	for _, l := range all {
		nodes = append(nodes, l.Nodes...)
	}
	connected := map[string]bool{} // a node may have moved from one replica to another
	for _, n := range nodes {
		connected[n.Node] = connected[n.Node] || !n.Away
	}
	return slices.DeleteFunc(nodes, func(n Listening) bool { return n.Away && connected[n.Node] }), silent
}

// peersSay asks each other replica, all at once, for a second or so, and names those that did not
// answer.
func peersSay[T any](
	ctx context.Context, a *admin, ask func(context.Context, *api.Client) (T, error),
) (all []T, silent []string) {
	ctx, cancel := context.WithTimeout(ctx, askPeer)
	defer cancel()
	var mu sync.Mutex
	silent = a.cfg.Rollouts.AskPeers(ctx, func(ctx context.Context, p replicas.Peer) error {
		c, err := a.peers().client(p)
		if err != nil {
			return err
		}
		said, err := ask(ctx, &c)
		if err != nil {
			return refusedBy(p, err)
		}
		mu.Lock()
		defer mu.Unlock()
		all = append(all, said)
		return nil
	})
	slices.Sort(silent)
	return all, silent
}

// versions maps each version of the listener to the nodes that serve it. All replicas give one set
// of hosts the same version.
type versions struct {
	table *lds.Table
	nodes map[string][]string
}

func (l *Listeners) versions(nodes []Listening) versions {
	v := versions{table: l.Table, nodes: map[string][]string{}}
	for _, n := range nodes {
		name := n.Node
		if n.Away {
			name += " (away)"
		}
		if n.Version != "" {
			v.nodes[n.Version] = append(v.nodes[n.Version], name)
		}
	}
	return v
}

// serving lists the nodes that have a chain for n.
func (v versions) serving(n keysource.Name) (on []string) {
	for version, nodes := range v.nodes {
		hosts, _ := v.table.HostsOf(version)
		if _, has := slices.BinarySearch(hosts, n); has {
			on = append(on, nodes...)
		}
	}
	slices.Sort(on)
	return slices.Compact(on)
}

// unknown lists the nodes that serve a version of which the hosts are not remembered. They refuse
// what is newer, or were not sent it yet.
func (v versions) unknown() (on []string) {
	for version, nodes := range v.nodes {
		if _, ok := v.table.HostsOf(version); !ok {
			on = append(on, nodes...)
		}
	}
	slices.Sort(on)
	return slices.Compact(on)
}

// hosts returns those for which some node has a chain.
func (v versions) hosts() []keysource.Name {
	all := map[keysource.Name]struct{}{}
	for version := range v.nodes {
		hosts, _ := v.table.HostsOf(version)
		for _, n := range hosts {
			all[n] = struct{}{}
		}
	}
	return slices.Sorted(maps.Keys(all))
}
