package admin

import (
	"cmp"
	"fmt"
	"net/http"
	"slices"
	"time"

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

// absence says of a node that was here or should be, and is not, since when. It is empty for one
// that nobody knows.
func absence(all []presence.Node, id string) string {
	i := slices.IndexFunc(all, func(n presence.Node) bool { return n.ID == id })
	if i < 0 {
		return ""
	}
	switch n := all[i]; {
	case n.Since.IsZero():
		return fmt.Sprintf("node %q is expected and has never been here (lockstep nodes --all)", id)
	case n.Gone:
		return fmt.Sprintf("node %q is gone since %s (lockstep nodes --all)", id, n.Since.UTC().Format(time.RFC3339))
	default:
		return fmt.Sprintf("node %q is away since %s (lockstep nodes --all)", id, n.Since.UTC().Format(time.RFC3339))
	}
}
