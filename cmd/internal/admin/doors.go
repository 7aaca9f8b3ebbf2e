package admin

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/lockstep-tls/lockstep/cmd/internal/api"
	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/xds"
	"github.com/lockstep-tls/lockstep/xds/server"
)

// maxDoors bounds the list, since a policy may deny a name to thousands of nodes.
const maxDoors = 20

// These are the values of Why in [api.Door].
const (
	bySpelling = "spelling"
	byWildcard = "wildcard"
	byEviction = "evicted"
	byPolicy   = "policy"
)

// doors answers another replica.
func (a *admin) doors(r *http.Request) (api.Doors, error) {
	return a.doorsHere(r.Context(), r.URL.Query().Get("name"))
}

// doorsHere looks at each stream that is connected to this replica.
func (a *admin) doorsHere(ctx context.Context, asked string) (out api.Doors, err error) {
	out = api.Doors{Replica: a.cfg.Replica, Doors: []api.Door{}}
	n, err := keysource.CertName(asked)
	if err != nil {
		return out, err
	}
	out.Remembered = a.remembered(n)
	policy := a.cfg.Policy()
	found := map[api.Door]struct{}{} // a node may have several streams
	for _, s := range a.cfg.Streams.Streams(ctx, server.Query{Keep: spells(n)}) {
		if s.Node.ID == "" {
			continue
		}
		door := api.Door{Node: s.Node.ID, Identity: s.Node.Identity, Replica: a.cfg.Replica, Asked: asked}
		if policy != nil && !policy.AllowsName(s.Node.Identity, n) {
			door.Why, door.Words = byPolicy, fmt.Sprintf("no rule of the policy grants it to %q", s.Node.Identity)
			found[door] = struct{}{}
			continue
		}
		if s.Node.Service != xds.ADS {
			continue
		}
		for _, refused := range a.cfg.Table.RefusedSpellings(s.Node.Stream, asked) {
			door.Asked, door.Why = refused.Asked, bySpelling
			door.Words = fmt.Sprintf("the node holds the name as %s: of a name it gets the normal spelling, %s, "+
				"and one other", refused.Held, n)
			found[door] = struct{}{}
		}
		held := false
		for _, name := range s.Names {
			held = held || name.Sent != "" && !name.Evicted
			if name.Evicted {
				door.Asked, door.Why = name.Name, byEviction
				door.Words = "it was removed to make room (node_names, wildcard_names): " +
					"the node asks again when a client comes"
				found[door] = struct{}{}
			}
		}
		if wild := n.Wildcard(); wild != "" && !held && slices.Contains(s.Full, string(wild)) {
			door.Asked, door.Why = asked, byWildcard
			door.Words = fmt.Sprintf("the node holds as many names under %s as it may (wildcard_names): "+
				"its oldest give way, 50 a second, and what comes beyond that is refused; "+
				"a certificate of its own would let the name in, or an eager chain", wild)
			found[door] = struct{}{}
		}
	}
	for d := range found {
		out.Doors = append(out.Doors, d)
	}
	limitDoors(&out)
	return out, nil
}

// remembered is until when both n and its wildcard count as absent without a look.
func (a *admin) remembered(n keysource.Name) time.Time {
	until := a.cfg.Table.AbsentUntil(n)
	if w := n.Wildcard(); w != "" && !until.IsZero() {
		if wild := a.cfg.Table.AbsentUntil(w); wild.Before(until) {
			return wild
		}
	}
	return until
}

func limitDoors(d *api.Doors) {
	slices.SortFunc(d.Doors, func(x, y api.Door) int {
		return cmp.Or(cmp.Compare(x.Node, y.Node), cmp.Compare(x.Replica, y.Replica),
			cmp.Compare(x.Asked, y.Asked), cmp.Compare(x.Why, y.Why))
	})
	if beyond := len(d.Doors) - maxDoors; beyond > 0 {
		d.More += beyond
		d.Doors = d.Doors[:maxDoors]
	}
}

// doorsOf adds what all replicas say.
func (a *admin) doorsOf(ctx context.Context, n keysource.Name, out *api.Explanation) {
	here, err := a.doorsHere(ctx, out.Asked)
	if err != nil {
		return // it is no server name, and the verdict says so
	}
	all, silent := peersSay(ctx, a, func(ctx context.Context, c *api.Client) (api.Doors, error) {
		return c.Doors(ctx, out.Asked)
	})
	if len(out.Silent) == 0 { // else they are named already
		out.Silent = silent
	}
	sum := api.Doors{}
	for _, d := range append(all, here) {
		sum.More += d.More
		sum.Doors = append(sum.Doors, d.Doors...)
		if !d.Remembered.IsZero() {
			out.Remembered = append(out.Remembered, api.Remembered{Replica: d.Replica, Until: d.Remembered.UTC()})
		}
	}
	if out.Cert != nil && out.Cert.Name == string(n) {
		// the limit of a wildcard does not count for a certificate of its own
		sum.Doors = slices.DeleteFunc(sum.Doors, func(d api.Door) bool { return d.Why == byWildcard })
	}
	limitDoors(&sum)
	out.Doors, out.MoreDoors = sum.Doors, sum.More
	slices.SortFunc(out.Remembered, func(x, y api.Remembered) int { return cmp.Compare(x.Replica, y.Replica) })
}
