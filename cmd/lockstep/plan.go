package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/lockstep-tls/lockstep/cmd/internal/api"
)

func (a *app) planCommand() *cobra.Command {
	var cert, chain string
	cmd := &cobra.Command{
		Use:   "plan [SCOPE] | plan --cert NAME --chain FILE",
		Short: "Say what a rotation would do now, to whom, and what would block it; or what a renewal would do to a host's tickets",
		Long: "Say what a rotation would do now, to whom, and what would block it. With --cert and --chain, say whether the session tickets of a host\n" +
			"would outlive a renewal: Envoy binds them to the issuer and the names of the certificate.",
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: a.completeScope,
		RunE: func(cmd *cobra.Command, args []string) error {
			if cert != "" {
				if len(args) > 0 {
					return usage("give either a SCOPE or --cert")
				}
				return a.planRenewal(cmd, cert, chain)
			}
			c, err := a.reader()
			if err != nil {
				return err
			}
			ctx, cancel := a.within(cmd, usual)
			defer cancel()
			p, err := c.Plan(ctx, scopeOf(args))
			if err != nil {
				return err
			}
			return a.show(p, func(w io.Writer) { planTable(w, p) })
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
}

func (a *app) excludeCommand() *cobra.Command {
	var (
		scope, why string
		d          time.Duration
	)
	cmd := &cobra.Command{
		Use:               "exclude NODE --for DURATION",
		Short:             "Let rotations go on without a node for a while; --for 0 takes it back",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeNode,
		RunE: func(cmd *cobra.Command, args []string) error {
			if d < 0 {
				return usage("--for %s: it must not be negative; 0 takes an exclusion back", d)
			}
			c, err := a.writer()
			if err != nil {
				return err
			}
			ctx, cancel := a.within(cmd, usual)
			defer cancel()
			if err := c.Exclude(ctx, scope, api.ExcludeRequest{Node: args[0], Seconds: d.Seconds(), By: me(), Why: why}); err != nil {
				return err
			}
			if d == 0 {
				fmt.Fprintf(a.err, "rotations of scope %s wait for %s again\n", scope, args[0])
			} else {
				fmt.Fprintf(a.err, "rotations of scope %s go on without %s for %s; a ticket that it cannot read is refused there\n", scope, args[0], short(d))
			}
			return nil
		},
	}
	cmd.Flags().DurationVar(&d, "for", 0, "for how long, such as 1h; 0 takes it back")
	cmd.Flags().StringVar(&scope, "scope", "default", "the scope")
	cmd.Flags().StringVar(&why, "why", "", "the `reason`, for the history")
	cmd.MarkFlagRequired("for")
	cmd.RegisterFlagCompletionFunc("scope", a.completeScope)
	return cmd
}
