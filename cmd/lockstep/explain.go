package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/lockstep-tls/lockstep/cmd/internal/api"
)

func (a *app) explainCommand() *cobra.Command {
	var q api.ExplainQuery
	var grants api.GrantsQuery
	cmd := &cobra.Command{
		Use: "explain NAME | --key ID | --cert NAME",
		Short: "Say which certificate a server name gets, from where, why not another, in which chain, and which " +
			"nodes hold it",
		Long: "Say which certificate a server name gets: its own, else its wildcard's; from the directory, else " +
			"from the store. With --node or\n" +
			"--identity, also whether the policy lets that node have it. With both, also whether the identity may " +
			"use that node id. Where lockstepd serves a listener,\n" +
			"also whether the name is eager, and why, or on demand. What keeps the name from connected nodes just " +
			"now is listed, certificate or not: the\n" +
			"policy, another spelling that they hold, too many names under one wildcard (wildcard_names), room " +
			"that was made (node_names). The exit code is 4 where there is none, and 3 where it could not be " +
			"looked up.\n" +
			"With --key or --cert, who received a ticket key or a certificate, as far as that is known, and who may.",
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if grants != (api.GrantsQuery{}) {
				return a.explainGrants(cmd, args, grants, q)
			}
			if len(args) == 0 {
				return usage("give a server name, --key or --cert")
			}
			q.Name = args[0]
			e, err := ask(a, cmd, func(c *api.Client, ctx context.Context) (api.Explanation, error) {
				return c.Explain(ctx, q)
			}, explainTable)
			if err != nil {
				return err
			}
			switch e.Found {
			case "yes":
				return nil
			case "unknown":
				return fail(exitDegraded, "the certificate of %s could not be looked up", e.Name)
			}
			return fail(exitNotFound, "no certificate for %s", e.Asked)
		},
	}
	cmd.Flags().StringVar(&grants.Key, "key", "", "the `ID` of a ticket key: who received it, and who may?")
	cmd.Flags().StringVar(&grants.Cert, "cert", "", "the `NAME` of a certificate: who received it, and who may?")
	cmd.Flags().StringVar(&q.Node, "node", "", "a connected `node`: may it have the certificate?")
	cmd.Flags().StringVar(&q.Identity, "identity", "",
		"the `identity` of a client certificate: may a node with it have the certificate?")
	cmd.RegisterFlagCompletionFunc("node", a.completeNode)
	return cmd
}

func explainTable(w io.Writer, e api.Explanation) {
	row(w, e.Verdict)
	if e.Name != "" && e.Name != e.Asked {
		row(w, fmt.Sprintf("%s is looked up as %s", e.Asked, e.Name))
	}
	if e.Chain != nil {
		row(w, e.Chain.Words)
	}
	if len(e.Looked) > 0 {
		row(w, "LOOKED FOR", "SOURCE", "OUTCOME", "WHY")
		for _, l := range e.Looked {
			row(w, l.Name, l.Source, l.Outcome, l.Words)
		}
	}
	if c := e.Cert; c != nil {
		row(w, "VERSION", "EXPIRES", "ISSUER", "CONTEXT")
		row(w, c.Version, c.NotAfter.Local().Format("2006-01-02 15:04"), c.Issuer, c.Context)
		if c.Fingerprint != "" {
			row(w, "SHA-256: "+c.Fingerprint)
		}
	}
	if c := e.Second; c != nil {
		row(w, "BESIDE IT", "VERSION", "EXPIRES", "ISSUER", "SOURCE")
		row(w, c.Name, c.Version, c.NotAfter.Local().Format("2006-01-02 15:04"), c.Issuer, c.Source)
	}
	if len(e.Holders) > 0 {
		row(w, "NODE", "AS", "VERSION", "STATE", "SINCE", "WORDS")
		for _, h := range e.Holders {
			row(w, h.Node, h.Name, h.Version, h.State, ago(h.Secret), wordsOf(h.Secret))
		}
	} else if e.Name != "" && len(e.Silent) > 0 {
		row(w, "No node of the replicas that answered holds it. Nodes of the others may.")
	} else if e.Name != "" {
		row(w, "No node that is connected holds it.")
	}
	for _, r := range e.Remembered {
		row(w, fmt.Sprintf("%s remembers that there is no certificate, until %s or a change of the name", r.Replica,
			r.Until.Local().Format("15:04:05")))
	}
	if len(e.Doors) > 0 {
		row(w, "TURNED AWAY AT", "AS", "DOOR", "WHY")
		for _, d := range e.Doors {
			row(w, d.Node, d.Asked, d.Why, d.Words)
		}
		if e.MoreDoors > 0 {
			row(w, fmt.Sprintf("and %d more", e.MoreDoors))
		}
	} else if e.Name != "" {
		which := "No node that is connected"
		if len(e.Silent) > 0 {
			which = "No node of the replicas that answered"
		}
		row(w, which+" is denied it: not by the policy, nor by the bounds on spellings and on names under a wildcard.")
	}
	list(w, "did not answer", e.Silent)
}
