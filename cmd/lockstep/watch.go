package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/lockstep-tls/lockstep/cmd/internal/api"
)

func (a *app) watchCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "watch",
		Short: "Show what happens at all replicas, line by line, until it is interrupted",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			err := a.call(cmd, 0, func(ctx context.Context, c *api.Client) error { return c.Watch(ctx, a.event) })
			switch {
			case cmd.Context().Err() != nil:
				return nil // a person ends it so
			case err == nil:
				return fmt.Errorf(
					"lockstepd closed the stream of events: it is stopping; start this again once it is back")
			}
			return err
		},
	}
}

// event prints one event. It is one line, with -o json too, and with -o yaml a document of its own.
func (a *app) event(l api.Line) error {
	var b []byte
	var err error
	switch a.format {
	case "json":
		b, err = toJSON(l, "")
	case "yaml":
		b, err = toYAML(l)
		b = append([]byte("---\n"), b...)
	default:
		text := sentence(l)
		if l.Replica != "" {
			text += " (replica " + firstOf(l.Replica) + ")"
		}
		b = []byte(visible(strings.Map(oneLine, text)) + "\n")
	}
	if err == nil {
		_, err = a.out.Write(b)
	}
	return err
}
