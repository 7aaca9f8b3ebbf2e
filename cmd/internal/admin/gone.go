package admin

import (
	"net/http"

	"github.com/lockstep-tls/lockstep/cmd/internal/api"
	"github.com/lockstep-tls/lockstep/cmd/internal/presence"
	"github.com/lockstep-tls/lockstep/events"
	"github.com/lockstep-tls/lockstep/keysource"
)

// gone adds the nodes that were here and are not, and those that are expected and are not.
func (f *fleet) gone(all []presence.Node, only string) {
	connected := map[string]bool{}
	for _, id := range f.ids {
		connected[id] = true
	}
	for _, n := range all {
		if connected[n.ID] || only != "" && n.ID != only {
			continue
		}
		row := f.row(n.ID, n.ID)
		row.Identity, row.Since, row.Expected = n.Identity, n.Since, n.Expected
		switch {
		case n.Since.IsZero():
			row.State = "missing"
		case n.Gone:
			row.State = "gone"
		default:
			row.State = "away"
		}
		for scope, version := range n.Rings {
			row.Secrets = append(row.Secrets, api.Secret{
				Name: keysource.RingName(scope), Version: version, State: stateAccepted, At: n.Since,
			})
		}
	}
}

// forgetNode takes a gone node off the list.
func (a *admin) forgetNode(r *http.Request) (struct{}, error) {
	id, who := r.PathValue("node"), by(r.URL.Query().Get("by"))
	if err := a.cfg.Gone.Forget(r.Context(), id); err != nil {
		return struct{}{}, err
	}
	a.cfg.Events.Publish(events.Event{
		Kind: events.NodeForgotten, Node: id, By: who, Text: "node " + id + " was forgotten by " + who,
	})
	return struct{}{}, nil
}
