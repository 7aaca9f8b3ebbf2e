package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/lockstep-tls/lockstep/cmd/internal/api"
)

// explainGrants says who received a key or a certificate, and who may.
func (a *app) explainGrants(cmd *cobra.Command, args []string, q api.GrantsQuery, other api.ExplainQuery) error {
	if len(args) > 0 || q.Key != "" && q.Cert != "" || other != (api.ExplainQuery{}) {
		return usage("--key and --cert: give one of them, and nothing else")
	}
	_, err := ask(a, cmd, func(c *api.Client, ctx context.Context) (api.Grants, error) {
		return c.Grants(ctx, q)
	}, grantsTable)
	return err
}

func grantsTable(w io.Writer, g api.Grants) {
	const form = "2006-01-02 15:04:05"
	row(w, g.Words)
	if len(g.Received) > 0 {
		row(w, "RECEIVED BY", "IDENTITY", "REPLICA", "AS", "VERSION", "STATE", "SINCE")
		for _, r := range g.Received {
			row(w, r.Node, r.Identity, r.Replica, r.Name, r.Version, r.State, r.At.Local().Format(form))
		}
	} else if len(g.Silent) > 0 {
		row(w, "No node is known to have it, but not every replica has answered.")
	} else {
		row(w, "No node is known to have it, of those that are connected or were here within 30 days.")
	}
	switch {
	case g.Open:
		row(w, "There is no policy: whoever can connect may have it.")
	case len(g.May) == 0:
		row(w, "No rule of the policy grants it.")
	default:
		row(w, "MAY HAVE IT", "IDENTITY", "NODES")
		for _, m := range g.May {
			nodes := "any id"
			if len(m.Nodes) > 0 {
				nodes = strings.Join(m.Nodes, " ")
			}
			row(w, fmt.Sprintf("rule %d", m.Rule), m.Identity, nodes)
		}
	}
	if len(g.Recorded) > 0 {
		row(w, "AUDIT LINE", "AT", "WHAT", "BY", "NODES", "WHY")
		for _, l := range g.Recorded {
			row(w, fmt.Sprint(l.Number), l.At.Local().Format(form), l.What, l.Actor, fmt.Sprint(l.Nodes), l.Why)
		}
	}
	list(w, "not known", g.Unknown)
	list(w, "did not answer", g.Silent)
}
