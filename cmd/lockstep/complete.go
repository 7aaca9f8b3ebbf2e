package main

import (
	"time"

	"github.com/spf13/cobra"
)

// A completion answers at once or not at all.
const completeWithin = 2 * time.Second

func (a *app) completeScope(cmd *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
	return a.complete(cmd, len(args) > 0 && cmd.Name() != "exclude", func() (names []cobra.Completion, err error) {
		c, err := a.reader()
		if err != nil {
			return nil, err
		}
		ctx, cancel := a.within(cmd, completeWithin)
		defer cancel()
		s, err := c.Status(ctx)
		for _, sc := range s.Scopes {
			names = append(names, sc.Scope)
		}
		return names, err
	})
}

func (a *app) completeNode(cmd *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
	return a.complete(cmd, len(args) > 0, func() (names []cobra.Completion, err error) {
		c, err := a.reader()
		if err != nil {
			return nil, err
		}
		ctx, cancel := a.within(cmd, completeWithin)
		defer cancel()
		n, err := c.Nodes(ctx, "")
		for _, n := range n.Nodes {
			names = append(names, n.Node)
		}
		return names, err
	})
}

// complete asks for names unless the command has all its arguments. The shell shows no errors.
func (a *app) complete(cmd *cobra.Command, full bool, ask func() ([]cobra.Completion, error)) ([]cobra.Completion, cobra.ShellCompDirective) {
	if full || a.settle(cmd) != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	names, err := ask()
	if err != nil {
		cobra.CompErrorln(err.Error())
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
