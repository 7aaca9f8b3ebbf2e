package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/lockstep-tls/lockstep/cmd/internal/api"
	"github.com/lockstep-tls/lockstep/keysource"
)

func (a *app) nodesCommand() *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use:               "nodes [NODE]",
		Short:             "List the nodes with what they hold and refuse; or one node with all its secrets",
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: a.completeNode,
		RunE: func(cmd *cobra.Command, args []string) error {
			node, table := "", nodesTable
			if len(args) == 1 {
				node, table = args[0], nodeTable
			}
			return a.call(cmd, usual, func(ctx context.Context, c *api.Client) error {
				get := c.Nodes
				if all {
					get = c.AllNodes
				}
				n, err := get(ctx, node)
				if err != nil {
					return err
				}
				if node != "" && len(n.Nodes) == 0 {
					return fail(exitNotFound, "no node %q: lockstep nodes lists those that are known", node)
				}
				for _, s := range n.Silent {
					fmt.Fprintln(a.err, "a replica did not answer; of its nodes only the rings are shown:", s)
				}
				return show(a, n, table)
			})
		},
	}
	cmd.Flags().BoolVar(&all, "all", false,
		"also those that were here within 30 days and are gone, and expected ones that are missing")
	return cmd
}

func (a *app) nodeCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "node", Short: "Forget nodes that are gone"}
	cmd.AddCommand(&cobra.Command{
		Use:   "forget NODE...",
		Short: "Take nodes that are gone off the list of nodes that were here",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.call(cmd, usual, func(ctx context.Context, c *api.Client) error {
				for _, node := range args {
					if err := c.ForgetNode(ctx, node); err != nil {
						return err
					}
					fmt.Fprintf(a.err, "node %s is forgotten\n", node)
				}
				return nil
			})
		},
	})
	return cmd
}

func nodesTable(w io.Writer, n api.Nodes) {
	row(w, "NODE", "STATE", "FOR", "IDENTITY", "REMOTE", "RING", "VERSION", "ANSWER", "SINCE", "CERTIFICATES")
	for _, n := range n.Nodes {
		var rings []api.Secret
		var absent []string
		others := 0
		for _, s := range n.Secrets {
			if _, ok := keysource.RingScope(s.Name); ok {
				rings = append(rings, s)
			} else if s.State == "absent" {
				absent = append(absent, s.Name)
			} else {
				others++
			}
		}
		trouble := ""
		if others > 0 {
			trouble = fmt.Sprintf("%d not as they should be (lockstep nodes %s)", others, n.Node)
		}
		if len(absent) > 0 {
			trouble = strings.TrimPrefix(fmt.Sprintf("%s; asks for %s, which is absent (lockstep nodes %s)",
				trouble, firstNames(absent), n.Node), "; ")
		}
		if n.CertificateState != "" && n.CertificateState != "good" {
			trouble = strings.TrimPrefix(trouble+"; its own certificate "+n.CertificateState+", ends "+
				until(n.CertificateNotAfter), "; ")
		}
		for _, l := range n.Listeners {
			trouble = strings.TrimPrefix(trouble+"; listener "+answer(l), "; ")
		}
		if len(rings) == 0 {
			rings = append(rings, api.Secret{})
		}
		for _, s := range rings {
			row(w, n.Node, n.State, since(n.Since), n.Identity, n.Remote, s.Name, s.Version, answer(s), ago(s), trouble)
		}
	}
}

// firstNames names the first three, and counts the others.
func firstNames(names []string) string {
	const most = 3
	if len(names) <= most {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
}

// nodeTable shows one node with all its secrets. Several streams may have its id.
func nodeTable(w io.Writer, n api.Nodes) {
	for i, n := range n.Nodes {
		if i > 0 {
			fmt.Fprintln(w)
		}
		row(w, "NODE", "STATE", "FOR", "IDENTITY", "ITS CERTIFICATE ENDS", "REMOTE", "REPLICA")
		row(w, n.Node, n.State, since(n.Since), n.Identity, until(n.CertificateNotAfter), n.Remote,
			cmp.Or(strings.Join(n.Replicas, ", "), n.Replica))
		fmt.Fprintln(w)
		row(w, "SECRET", "VERSION", "ANSWER", "AGO")
		for _, s := range n.Secrets {
			row(w, s.Name, s.Version, answer(s), ago(s))
		}
		for _, l := range n.Listeners {
			row(w, "listener "+l.Name, l.Version, answer(l), since(l.At))
		}
	}
}

// answer is the state of a secret. Where there are words about it, they follow.
func answer(s api.Secret) string {
	if more := wordsOf(s); more != "" {
		return s.State + ": " + more
	}
	return s.State
}

// wordsOf returns the node's own words if it refused, and the note of lockstepd if there is one. Of
// a stale node it says what it was sent.
func wordsOf(s api.Secret) string {
	if s.Sent != "" {
		s.Note = strings.TrimPrefix(s.Note+"; it was sent "+s.Sent+", and has not answered", "; ")
	}
	if s.Refused == "" || s.Note == "" {
		return s.Refused + s.Note
	}
	return s.Refused + " (" + s.Note + ")"
}

// ago is for how long the secret has had its state.
func ago(s api.Secret) string {
	if s.At.IsZero() {
		return ""
	}
	return since(s.At)
}
