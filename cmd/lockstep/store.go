package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/lockstep-tls/lockstep/cmd/internal/api"
)

func (a *app) storeCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "store",
		Short: "Move what is stored to another store",
	}
	cmd.AddCommand(a.storeCopyCommand(), a.storeThawCommand())
	return cmd
}

func (a *app) storeThawCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "thaw",
		Short: "Let changes happen again in a store that was frozen, once each lockstepd uses it",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.call(cmd, usual, func(ctx context.Context, c *api.Client) error {
				t, err := c.Thaw(ctx)
				if err != nil {
					return err
				}
				if t.Nothing {
					fmt.Fprintln(a.err, "the store was not frozen: nothing was changed")
				} else {
					fmt.Fprintln(a.err, "the store was thawed: changes happen again")
				}
				return nil
			})
		},
	}
}
