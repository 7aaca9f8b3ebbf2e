package admin

import (
	"cmp"
	"net/http"
	"slices"

	"github.com/lockstep-tls/lockstep/cmd/internal/api"
	"github.com/lockstep-tls/lockstep/cmd/internal/presence"
	"github.com/lockstep-tls/lockstep/events"
	"github.com/lockstep-tls/lockstep/keysource"
)

// withGone adds the nodes that were here and are not, and those that are expected and are not.
func withGone(nodes []api.Node, all []presence.Node, only string) []api.Node {
	listed := map[string]bool{}
	for _, n := range nodes {
		listed[idOf(n.Node)] = true
	}
	for _, n := range all {
		if listed[n.ID] || only != "" && n.ID != only {
			continue
		}
		row := api.Node{
			Node: n.ID, Identity: n.Identity, State: "away", Since: n.Since, Expected: n.Expected,
			Secrets: []api.Secret{},
		}
		switch {
		case n.Since.IsZero():
			row.State = "missing"
		case n.Gone:
			row.State = "gone"
		}
		for scope, version := range n.Rings {
			row.Secrets = append(row.Secrets, api.Secret{
				Name: keysource.RingName(scope), Version: version, State: stateAccepted, At: n.Since,
			})
		}
		nodes = append(nodes, row)
	}
	slices.SortStableFunc(nodes, func(a, b api.Node) int { return cmp.Compare(a.Node, b.Node) })
	return nodes
}

// forgetNode takes a gone node off the list.
func (a *admin) forgetNode(r *http.Request) (struct{}, error) {
	id := r.PathValue("node")
	if err := a.cfg.Gone.Forget(r.Context(), id); err != nil {
		return struct{}{}, err
	}
	who := Actor(r.Context())
	a.cfg.Events.Publish(events.Event{
		Kind: events.NodeForgotten, Node: id, By: who, Text: "node " + id + " was forgotten by " + who,
	})
	return struct{}{}, nil
}
