package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/lockstep-tls/lockstep/cmd/internal/api"
)

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
			q := api.ExcludeRequest{Node: args[0], Seconds: d.Seconds(), By: me(), Why: why}
			err := a.call(cmd, usual, func(ctx context.Context, c *api.Client) error {
				return c.Exclude(ctx, scope, q)
			})
			if err != nil {
				return err
			}
			if d == 0 {
				fmt.Fprintf(a.err, "rotations of scope %s wait for %s again\n", scope, args[0])
			} else {
				fmt.Fprintf(
					a.err, "rotations of scope %s go on without %s for %s; a ticket that it cannot read is "+
						"refused there\n", scope, args[0], short(d))
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
