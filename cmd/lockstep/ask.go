package main

import (
	"context"
	"io"
	"os"
	"os/user"
	"time"

	"github.com/spf13/cobra"

	"github.com/lockstep-tls/lockstep/cmd/internal/api"
)

// usual bounds a single call.
const usual = 10 * time.Second

// call is what a command does with lockstepd.
type call func(context.Context, *api.Client) error

// call runs do with a client of the admin API. It takes limit at most, or --timeout.
func (a *app) call(cmd *cobra.Command, limit time.Duration, do call) error {
	c, err := a.client()
	if err != nil {
		return err
	}
	ctx, cancel := a.within(cmd, limit)
	defer cancel()
	return do(ctx, c)
}

// within bounds a command by --timeout, or by limit if that flag is not given. The limit 0 never
// ends.
func (a *app) within(cmd *cobra.Command, limit time.Duration) (context.Context, context.CancelFunc) {
	a.limit = limit
	if a.timeout > 0 {
		a.limit = a.timeout
	}
	if a.limit == 0 {
		return context.WithCancel(cmd.Context())
	}
	return context.WithTimeout(cmd.Context(), a.limit)
}

// ask reads an answer of lockstepd with a single call, and shows it.
func ask[T any](
	a *app, cmd *cobra.Command, question func(*api.Client, context.Context) (T, error), table func(io.Writer, T),
) (answer T, err error) {
	err = a.call(cmd, usual, func(ctx context.Context, c *api.Client) error {
		if answer, err = question(c, ctx); err != nil {
			return err
		}
		return show(a, answer, table)
	})
	return answer, err
}

// offlineActor names who changes a store without lockstepd, as lockstepd names callers: by what was
// proved, and then by what he says of himself.
func offlineActor() string { return "holder of the sealing key (claims " + me() + ")" }

// me names who asks: the user and the host. The history shows it as a claim.
func me() string {
	name := "somebody"
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	if host, err := os.Hostname(); err == nil {
		name += "@" + host
	}
	return name
}
