package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/lockstep-tls/lockstep/cmd/internal/api"
	"github.com/lockstep-tls/lockstep/keysource"
)

func (a *app) hostCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "host",
		Short: "Decide which hosts get a filter chain of their own, with session tickets",
		Long: "Decide which hosts are eager: they get a filter chain of their own in the listener that lockstepd " +
			"serves, and their sessions resume. All\n" +
			"others share one chain that fetches certificates on demand and resumes nothing. Nodes take a change " +
			"in place: other hosts, their connections and\n" +
			"their tickets are left alone.",
	}
	cmd.AddCommand(a.hostPinCommand(), a.hostUnpinCommand(), a.hostListCommand())
	return cmd
}

func (a *app) hostPinCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "pin NAME",
		Short: "Make a host eager; *.example.com is the wildcard's own chain",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			n, err := keysource.ServerName(args[0])
			if err != nil {
				return err
			}
			return a.call(cmd, usual, func(ctx context.Context, c *api.Client) error {
				h, err := c.PinHost(ctx, string(n))
				if err != nil {
					return err
				}
				if parent, wild := strings.CutPrefix(string(n), "*."); wild {
					fmt.Fprintf(
						a.err, "every name below %s that has no chain of its own is served with this wildcard's "+
							"certificate while it is eager\n", parent)
				}
				return show(a, h, hostTable)
			})
		},
	}
}

func (a *app) hostUnpinCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "unpin NAME",
		Short: "Let a host go on demand again; says which nodes still serve its chain",
		Long: "Let a host go on demand again. The nodes that still serve its chain are printed: they do until " +
			"they take the next listener, a moment later\n" +
			"(lockstep host list shows who has not), and connections that are open then go on until Envoy's drain " +
			"time. A host that the configuration makes\n" +
			"eager stays so, which is said.",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			n, err := keysource.ServerName(args[0])
			if err != nil {
				return err
			}
			return a.call(cmd, usual, func(ctx context.Context, c *api.Client) error {
				h, err := c.UnpinHost(ctx, string(n))
				if err != nil {
					return err
				}
				return show(a, h, hostTable)
			})
		},
	}
}

func (a *app) hostListCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the eager hosts, why they are, and what tickets are bound to",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.call(cmd, usual, func(ctx context.Context, c *api.Client) error {
				l, err := c.Hosts(ctx)
				if err != nil {
					return err
				}
				for _, s := range l.Silent {
					fmt.Fprintf(a.err, "not asked: %s\n", s)
				}
				for _, n := range l.Unknown {
					fmt.Fprintf(a.err, "not known which hosts %s serves: it has a listener of long ago, or another's\n",
						n)
				}
				return show(a, l, hostsTable)
			})
		},
	}
}

func hostsTable(w io.Writer, l api.Hosts) {
	row(w, "NAME", "STATE", "BY", "NODES", "CERTIFICATE", "CONTEXT", "NOTE")
	for _, h := range l.Hosts {
		var notes []string
		if h.Problem != "" {
			notes = append(notes, h.Problem)
		}
		if h.From != "" && h.From != h.Name {
			notes = append(notes, "certificate of "+h.From)
		}
		if s := h.Second; s != nil {
			notes = append(notes, fmt.Sprintf("beside it %s: certificate %s, context %s", s.Name, s.Version, s.Context))
		}
		if h.Note != "" {
			notes = append(notes, h.Note)
		}
		if len(h.Serving) > 0 {
			notes = append(notes, "still served by "+strings.Join(h.Serving, ", "))
		}
		row(w, h.Name, h.State, h.By, fmt.Sprint(h.Nodes), h.Certificate, h.Context, strings.Join(notes, "; "))
	}
	if l.More > 0 {
		row(w, fmt.Sprintf("and %d more that match, beyond max_eager", l.More))
	}
}

func hostTable(w io.Writer, h api.Host) {
	hostsTable(w, api.Hosts{Hosts: []api.Host{h}})
}
