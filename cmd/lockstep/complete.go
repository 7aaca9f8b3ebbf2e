package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/lockstep-tls/lockstep/cmd/internal/api"
)

// completeWithin bounds a completion. A shell should not hang.
const completeWithin = 2 * time.Second

func (a *app) completeScope(
	cmd *cobra.Command, args []string, _ string,
) ([]cobra.Completion, cobra.ShellCompDirective) {
	full := len(args) > 0 && cmd.Name() != "exclude"
	return a.complete(cmd, full, func(ctx context.Context, c *api.Client) (names []cobra.Completion, err error) {
		s, err := c.Status(ctx)
		for _, sc := range s.Scopes {
			names = append(names, sc.Scope)
		}
		return names, err
	})
}

func (a *app) completeNode(cmd *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
	full := len(args) > 0
	return a.complete(cmd, full, func(ctx context.Context, c *api.Client) (names []cobra.Completion, err error) {
		n, err := c.Nodes(ctx, "")
		for _, n := range n.Nodes {
			names = append(names, n.Node)
		}
		return names, err
	})
}

// complete asks lockstepd for names, unless the command has all its arguments. Errors are not shown
// by the shell.
func (a *app) complete(
	cmd *cobra.Command, full bool, find func(context.Context, *api.Client) ([]cobra.Completion, error),
) (names []cobra.Completion, _ cobra.ShellCompDirective) {
	if full || a.globals(cmd) != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	err := a.call(cmd, completeWithin, func(ctx context.Context, c *api.Client) (err error) {
		names, err = find(ctx, c)
		return err
	})
	if err != nil {
		cobra.CompErrorln(err.Error())
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
