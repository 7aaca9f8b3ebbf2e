package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/lockstep-tls/lockstep/cmd/internal/api"
)

func (a *app) planCommand() *cobra.Command {
	var cert, chain string
	cmd := &cobra.Command{
		Use: "plan [SCOPE] | plan --cert NAME --chain FILE",
		Short: "Say what a rotation would do now, to whom, and what would block it; or what a renewal would do to " +
			"a host's tickets",
		Long: "Say what a rotation would do now, to whom, and what would block it. With --cert and --chain, say " +
			"whether the session tickets of a host\n" +
			"would outlive a renewal: Envoy binds them to the issuer and the names of the certificate, URIs " +
			"included.\nIn JSON, ended lists the TLS versions whose tickets would not.",
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: a.completeScope,
		RunE: func(cmd *cobra.Command, args []string) error {
			if cert != "" {
				if len(args) > 0 {
					return usage("give either a SCOPE or --cert")
				}
				return a.planRenewal(cmd, cert, chain)
			}
			_, err := ask(a, cmd, func(c *api.Client, ctx context.Context) (api.Plan, error) {
				return c.Plan(ctx, scopeOf(args))
			}, planTable)
			return err
		},
	}
	cmd.Flags().StringVar(&cert, "cert", "", "the `name` of a certificate that is to be renewed")
	cmd.Flags().StringVar(&chain, "chain", "", "PEM `file` with the chain that would replace it, leaf first")
	cmd.MarkFlagsRequiredTogether("cert", "chain")
	return cmd
}

func planTable(w io.Writer, p api.Plan) {
	row(w, "A rotation of scope "+p.Scope+":")
	for i, s := range p.Steps {
		row(w, fmt.Sprintf("  %d. %s", i+1, s))
	}
	if len(p.Nodes) == 0 {
		row(w, "No live node would have to accept it.")
	} else {
		row(w, "Must accept it: "+strings.Join(p.Nodes, ", "))
	}
	if len(p.BlockedBy) == 0 {
		row(w, "Nothing blocks it.")
	}
	list(w, "blocked by", p.BlockedBy)
	list(w, "note", p.Notes)
}
