package main

import (
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/lockstep-tls/lockstep/cmd/internal/pki"
)

func (a *app) pkiListCommand() *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List what the CA has issued, and when it ends",
		Long: "List the certificates in the CA's folder, and when they end. One is near its end when 30 days are " +
			"left, or a third of its\n" +
			"lifetime. Those that were issued with --out are not listed.",
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			all, err := pki.List(dir, time.Now())
			if err != nil {
				return err
			}
			return show(a, listOfPKI{all}, pkiTable)
		},
	}
	cmd.Flags().StringVar(&dir, "dir", defaultPKI, "`folder` of the CA")
	return cmd
}

type listOfPKI struct {
	Certificates []pki.Listed `json:"certificates"`
}

func pkiTable(w io.Writer, l listOfPKI) {
	row(w, "ROLE", "NAME", "IDENTITY", "EXPIRES", "", "STATE")
	for _, c := range l.Certificates {
		if c.Problem != "" {
			row(w, c.Role, c.Name, "", "", "", c.State+": "+c.Problem)
			continue
		}
		row(w, c.Role, c.Name, c.Identity, c.NotAfter.UTC().Format(time.RFC3339), until(c.NotAfter), c.State)
	}
}

func (a *app) pkiRenewCommand() *cobra.Command {
	var (
		dir string
		r   pki.Renewal
	)
	cmd := &cobra.Command{
		Use:   "renew [NAME]...",
		Short: "Renew certificates: those named, or all that are near their end",
		Long: "Issue certificates anew, with the same names, for as long as last time. NAME is server, or the id of " +
			"a node. Without one,\n" +
			"all are renewed that lockstep pki list shows as near their end. The key stays, so that one file is " +
			"replaced, and whoever reads\n" +
			"it at that moment finds a pair that fits. lockstepd and lockstep-edge take it without a restart. Copy " +
			"a node's tls.crt to its\n" +
			"machine. An Envoy reads it when it starts.",
		RunE: func(_ *cobra.Command, names []string) error {
			ca, err := pki.Open(dir)
			if err != nil {
				return err
			}
			all, err := pki.List(dir, time.Now())
			if err != nil {
				return err
			}
			due, err := a.toRenew(all, names)
			if err != nil {
				return err
			}
			out := renewed{Renewed: []pki.Issued{}}
			for _, l := range due {
				one, err := ca.Renew(l.Dir, r)
				if err != nil {
					return fmt.Errorf("renewing %s: %w", l.Name, err)
				}
				out.Renewed = append(out.Renewed, one)
			}
			if len(due) == 0 {
				fmt.Fprintln(a.err, "nothing is near its end: lockstep pki list shows all")
			}
			return show(a, out, func(w io.Writer, r renewed) {
				for _, i := range r.Renewed {
					issuedTable(w, i)
				}
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&dir, "dir", defaultPKI, "`folder` of the CA")
	f.DurationVar(&r.TTL, "ttl", 0, "how long it is good for (default: as long as last time)")
	f.BoolVar(&r.NewKey, "new-key", false, "make a new key, too: tls.key has to be copied then as well")
	return cmd
}

type renewed struct {
	Renewed []pki.Issued `json:"renewed"`
}

// toRenew returns those of all that are named, or that are due if none is.
func (a *app) toRenew(all []pki.Listed, names []string) (due []pki.Listed, err error) {
	for _, l := range all {
		switch {
		case l.Role == pki.RoleCA:
			if slices.Contains(names, l.Name) || len(names) == 0 && l.Due() {
				const how = "make a new one in another folder (lockstep pki init), let lockstepd believe both " +
					"(--xds-client-ca takes several in one file), and issue every certificate anew"
				if len(names) > 0 {
					return nil, usage("a CA is not renewed: %s", how)
				}
				fmt.Fprintf(a.err, "the CA is near its end: %s\n", how)
			}
		case len(names) == 0 && l.Due():
			due = append(due, l)
		}
	}
	for _, n := range names {
		i := slices.IndexFunc(all, func(l pki.Listed) bool { return l.Name == n })
		if i < 0 {
			return nil, fail(exitNotFound, "there is no certificate of %q: lockstep pki list shows all", n)
		}
		due = append(due, all[i])
	}
	return due, nil
}
