package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/lockstep-tls/lockstep/cmd/internal/api"
	"github.com/lockstep-tls/lockstep/cmd/internal/bootstrap"
	"github.com/lockstep-tls/lockstep/cmd/internal/place"
	"github.com/lockstep-tls/lockstep/keysource"
)

func (a *app) bootstrapCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "bootstrap",
		Short: "Write the configuration of a node",
	}
	cmd.AddCommand(a.bootstrapEnvoyCommand(), a.bootstrapEdgeCommand())
	return cmd
}

func (a *app) bootstrapEnvoyCommand() *cobra.Command {
	var (
		o       bootstrap.Options
		mtls    bootstrap.TLS
		snippet bool
		mode    string
		from    sources
	)
	cmd := &cobra.Command{
		Use:   "envoy --node ID --host NAME... | envoy --node ID --mode on-demand|hybrid",
		Short: "Write Envoy's whole bootstrap (YAML) to standard output; with --snippet, what an existing one needs",
		Long: "Write Envoy's whole bootstrap (YAML) to standard output; with --snippet, the cluster and secret " +
			"configs that an existing one needs.\n" +
			"The Envoy of this machine gets the socket of the lockstepd of --data-dir; for one on another machine or " +
			"in a container, give --xds.\n" +
			"Try it: envoy --mode validate -c FILE\n\n" +
			"  --mode eager      a filter chain for each --host; sessions resume\n" +
			"  --mode on-demand  one chain for every name, which fetches certificates as clients ask for them; no " +
			"session resumes\n" +
			"  --mode hybrid     lockstepd serves the listener: chains for the eager hosts (lockstep host), one " +
			"for all others",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.Mode = bootstrap.Mode(mode)
			if o.Mode == bootstrap.Hybrid {
				for _, flag := range []string{"listen", "scope", "ticket-lifetime", "client-ca"} {
					if cmd.Flags().Changed(flag) {
						return usage(
							"--%s: in mode hybrid the listener comes from lockstepd (listeners: in its configuration)",
							flag)
					}
				}
			}
			if err := a.fill(&from, &o, &mtls); err != nil {
				return err
			}
			if o.Mode == bootstrap.Eager {
				o.Hosts = a.withSeconds(cmd, o.Hosts)
			}
			write := bootstrap.Envoy
			if snippet {
				write = bootstrap.Snippet
			}
			return a.nodeConfig(o, mtls, from.dir, write)
		},
	}
	f := cmd.Flags()
	f.StringVar(&mode, "mode", "eager", "where filter chains come from: eager, on-demand or hybrid")
	f.StringVar(&o.Envoy, "envoy-version", bootstrap.NewestEnvoy,
		"the `version` of the Envoy that the file is for, X.Y or X.Y.Z; a mode that it cannot do is refused")
	f.StringArrayVar(&o.Hosts, "host", nil, "a server `name` to serve; again for each; *.example.com covers one "+
		"label; an IP address serves clients without a server name that connect to it; NAME:rsa beside NAME has its "+
		"chain name the RSA certificate too, which lockstepd is asked for where it can be")
	f.StringVar(&o.Fallback, "fallback", "", "with --mode on-demand: the `name` whose certificate a client without a "+
		"server name gets, such as the node's IP address")
	f.BoolVar(&snippet, "snippet", false, "only what an existing bootstrap needs")
	nodeFlags(cmd, &o, &mtls, &from)
	return cmd
}

func (a *app) bootstrapEdgeCommand() *cobra.Command {
	var (
		o    bootstrap.Options
		mtls bootstrap.TLS
		from sources
		data string
	)
	cmd := &cobra.Command{
		Use:   "edge --node ID",
		Short: "Write the configuration of a lockstep-edge (YAML) to standard output",
		Long: "Write the configuration of a lockstep-edge (YAML) to standard output. It names no host: " +
			"certificates are loaded as clients ask for them.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := a.fill(&from, &o, &mtls); err != nil {
				return err
			}
			if !cmd.Flags().Changed("edge-data") && o.Node != "" {
				var err error
				if data, err = place.Edge(os.Geteuid(), os.Getenv, o.Node); err != nil {
					return fmt.Errorf("--edge-data: %w: name it", err)
				}
			}
			return a.nodeConfig(o, mtls, from.dir, func(o bootstrap.Options) ([]byte, error) {
				return bootstrap.Edge(o, data)
			})
		},
	}
	cmd.Flags().StringVar(&data, "edge-data", "",
		"`folder` of the edge's last-good copy; empty: none is kept (default /var/lib/lockstep-edge/ID; not as root: "+
			"$XDG_STATE_HOME/lockstep-edge/ID)")
	nodeFlags(cmd, &o, &mtls, &from)
	return cmd
}

// nodeFlags adds the flags that every kind of node has.
func nodeFlags(cmd *cobra.Command, o *bootstrap.Options, mtls *bootstrap.TLS, from *sources) {
	f := cmd.Flags()
	f.StringVar(&o.Node, "node", "", "the node `id`, one of its own for each")
	f.StringVar(&o.Cluster, "cluster", "edge", "the node cluster")
	f.StringSliceVar(&o.XDS, "xds", nil,
		"lockstepd's xDS `address`, host:port or unix:/path; again for each replica (default: where the lockstepd of "+
			"--data-dir listens on this machine)")
	f.StringVar(&mtls.CA, "xds-ca", "", "PEM `file` on the node: the CA of lockstepd's certificate; makes the "+
		"connection mTLS")
	f.StringVar(&mtls.Cert, "xds-cert", "", "PEM `file` on the node: its client certificate")
	f.StringVar(&mtls.Key, "xds-key", "", "PEM `file` on the node: the key of --xds-cert")
	f.StringVar(&mtls.ServerName, "xds-name", "", "the `name` that lockstepd's certificate carries: DNS, IP or "+
		"SPIFFE ID (default: the hosts of --xds)")
	f.StringVar(&o.Admin, "admin", "", "the node's admin `address` (default: a free port of 127.0.0.1 from 9901 on, "+
		"which is printed; edge-2 begins at 9902)")
	f.StringVar(&o.Listen, "listen", "0.0.0.0:8443", "the TLS listener's `address`")
	f.StringVar(&o.Upstream, "upstream", "127.0.0.1:8080", "`address` that takes the requests")
	f.StringVar(&o.Scope, "scope", "default", "the scope whose ticket keys are used")
	f.DurationVar(&o.TicketLifetime, "ticket-lifetime", 2*time.Hour, "the scope's ticket_lifetime")
	f.StringVar(&from.pki, "pki", "", "`folder` of lockstep pki, or one that it issued for the node: gives "+
		"--xds-ca, --xds-cert and --xds-key")
	f.StringVar(&from.config, "config", "", "lockstepd's configuration `file`: the scope's ticket_lifetime and "+
		"client_certs are read there")
	f.StringVar(&from.clientCA, "client-ca", "", "PEM `file`, here and on the node: the listener lets in clients "+
		"of the CAs in it only; the scope must declare them (--config)")
	for _, flag := range []string{"xds-ca", "xds-cert", "xds-key"} {
		cmd.MarkFlagsMutuallyExclusive("pki", flag)
	}
	cmd.MarkFlagsMutuallyExclusive("config", "ticket-lifetime")
}

// patienceToAsk bounds how long lockstepd is asked which hosts have two certificates.
const patienceToAsk = 2 * time.Second

// withSeconds adds the names of second certificates that hosts have. If lockstepd cannot be asked,
// hosts stay as they are: the file may be for another place.
func (a *app) withSeconds(cmd *cobra.Command, hosts []string) []string {
	c, err := a.client()
	if err != nil {
		return hosts
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), patienceToAsk)
	defer cancel()
	out := slices.Clone(hosts)
	for _, h := range hosts {
		n, err := keysource.ServerName(h)
		if err != nil || slices.Contains(hosts, string(n.Second())) {
			continue // the options are checked later
		}
		said, err := c.Explain(ctx, api.ExplainQuery{Name: string(n.Second())})
		if err != nil {
			return out
		}
		if said.Found == "yes" {
			out = append(out, string(n.Second()))
			fmt.Fprintf(a.err, "%s has an ECDSA and an RSA certificate: its chain names both\n", n)
		}
	}
	return out
}
