package main

import (
	"cmp"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/lockstep-tls/lockstep/cmd/internal/pki"
)

const defaultPKI = "./lockstep-pki"

func (a *app) pkiCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "pki",
		Short: "A small CA for lockstepd and its nodes, for those who have none",
		Long: "Make a CA, lockstepd's certificate and the nodes', with which they prove to each other who they " +
			"are. What hosts show to\n" +
			"clients is another matter. It needs no lockstepd; --dir is a folder of this machine, to be kept from " +
			"others: it holds the CA's key.",
	}
	issue := &cobra.Command{
		Use:   "issue",
		Short: "Issue a certificate: tls.crt, tls.key and ca.crt in a folder of their own",
	}
	issue.AddCommand(a.pkiServerCommand(), a.pkiNodeCommand())
	cmd.AddCommand(a.pkiInitCommand(), issue, a.pkiListCommand(), a.pkiRenewCommand())
	return cmd
}

func (a *app) pkiInitCommand() *cobra.Command {
	var (
		dir, name string
		force     bool
	)
	cmd := &cobra.Command{
		Use:   "init",
		Short: "Make the CA: ca.crt and ca.key, good for 10 years",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			ca, err := pki.Init(dir, name, force)
			if err != nil {
				return err
			}
			out := pki.Issued{Dir: dir, Identity: name, NotAfter: ca.NotAfter()}
			if err := show(a, out, issuedTable); err != nil {
				return err
			}
			fmt.Fprintf(a.err, "next: lockstep pki issue server --dir %s --name HOST --ip IP\n", dir)
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&dir, "dir", defaultPKI, "`folder` of the CA")
	f.StringVar(&name, "name", "Lockstep Nodes CA", "common `name` of the CA")
	f.BoolVar(&force, "force", false, "replace the CA that is there: nothing that it issued is worth anything then")
	return cmd
}

func (a *app) pkiServerCommand() *cobra.Command {
	var r pki.Request
	cmd := a.issueCommand(&r, func(dir string) (string, error) { return pki.ServerDir(dir), nil })
	cmd.Use = "server --name HOST --ip IP"
	cmd.Short = "Issue lockstepd's certificate"
	cmd.Long = "Issue lockstepd's certificate, for --xds-cert, --xds-key and --xds-client-ca; by default into " +
		"DIR/server."
	r.Server = true
	cmd.Flags().StringArrayVar(&r.Names, "name", nil, "a DNS `name` that nodes reach it by; again for each")
	cmd.Flags().StringArrayVar(&r.IPs, "ip", nil, "an IP `address` that nodes reach it by; again for each")
	return cmd
}

func (a *app) pkiNodeCommand() *cobra.Command {
	var r pki.Request
	cmd := a.issueCommand(&r, func(dir string) (string, error) { return pki.NodeDir(dir, r.Node) })
	cmd.Use = "node --node ID"
	cmd.Short = "Issue a node's certificate: its identity, for policy.yaml"
	cmd.Long = "Issue a node's certificate; by default into DIR/nodes/ID, where lockstep bootstrap envoy --node " +
		"ID --pki DIR finds it. Its identity is\n" +
		"the SPIFFE ID if there is one, else the node's id as a DNS name. A node needs that folder only, never " +
		"the CA's key."
	cmd.Flags().StringVar(&r.Node, "node", "", "the node `id`")
	cmd.Flags().StringVar(&r.SPIFFE, "spiffe-id", "",
		"its identity, such as spiffe://fleet.example/edge/1 (default: the id, as a DNS name)")
	cmd.MarkFlagRequired("node")
	return cmd
}

func (a *app) issueCommand(r *pki.Request, folder func(dir string) (string, error)) *cobra.Command {
	var (
		dir, out string
		force    bool
	)
	cmd := &cobra.Command{
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			ca, err := pki.Open(dir)
			if err != nil {
				return err
			}
			usual, err := folder(dir)
			if err != nil {
				return err
			}
			issued, err := ca.Issue(cmp.Or(out, usual), *r, force)
			if err != nil {
				return err
			}
			return show(a, issued, issuedTable)
		},
	}
	f := cmd.Flags()
	f.StringVar(&dir, "dir", defaultPKI, "`folder` of the CA")
	f.StringVar(&out, "out", "", "`folder` to write to")
	f.DurationVar(&r.TTL, "ttl", 365*24*time.Hour, "how long it is good for")
	f.BoolVar(&force, "force", false, "replace what is there")
	return cmd
}

func issuedTable(w io.Writer, i pki.Issued) {
	row(w, "DIR", "IDENTITY", "EXPIRES", "")
	row(w, i.Dir, cmp.Or(i.Identity, fmt.Sprint(i.IPs)), i.NotAfter.UTC().Format(time.RFC3339), until(i.NotAfter))
}
