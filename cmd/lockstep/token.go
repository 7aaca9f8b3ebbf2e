package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/lockstep-tls/lockstep/cmd/internal/api"
)

func (a *app) tokenCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "token",
		Short: "Give operators tokens of their own, and end them",
		Long: "Give operators tokens of their own, and end them. lockstepd keeps a hash of each, and all replicas " +
			"know it within a refresh. The audit log and\n" +
			"the history name the token. Only the role admin may do this, such as admin.token of the data directory.",
	}
	cmd.AddCommand(a.tokenNewCommand(), a.tokenListCommand(), a.tokenRevokeCommand())
	return cmd
}

func (a *app) tokenNewCommand() *cobra.Command {
	var (
		q   api.NewToken
		ttl time.Duration
	)
	cmd := &cobra.Command{
		Use:   "new --name NAME --role ROLE",
		Short: "Make a token and print it; it is shown this once",
		Long: "Make a token and print it; it is shown this once. The roles:\n" +
			"  read     sees everything that is no secret\n" +
			"  operate  also rotates, burns and takes back keys, excludes nodes, and changes certificates and pins\n" +
			"  admin    does everything: the sealing key, backup and restore, the store, tokens, profiles",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if ttl < 0 || cmd.Flags().Changed("ttl") && ttl == 0 {
				return usage("--ttl %s: it must be positive; without it the token has no end", ttl)
			}
			q.Seconds = ttl.Seconds()
			return a.call(cmd, usual, func(ctx context.Context, c *api.Client) error {
				t, err := c.NewToken(ctx, q)
				if err != nil {
					return err
				}
				until := "until it is revoked"
				if t.Expires != nil {
					until = "until " + t.Expires.Local().Format("2006-01-02 15:04:05")
				}
				fmt.Fprintf(a.err, "the token %s counts %s; keep it in a file (0600), and give that with "+
					"--token-file\n", t.Name, until)
				return show(a, t, func(w io.Writer, t api.TokenMade) { row(w, t.Secret) })
			})
		},
	}
	cmd.Flags().StringVar(&q.Name, "name", "", "whose token it is, such as alice; the audit log names it")
	cmd.Flags().StringVar(&q.Role, "role", "", "read, operate or admin")
	cmd.Flags().StringVar(&q.Scope, "scope", "", "the only scope in which the role operate counts; certificates and "+
		"pins are of no scope, and cannot be changed with it")
	cmd.Flags().DurationVar(&ttl, "ttl", 0, "how long it counts, such as 720h (default: until it is revoked)")
	cmd.MarkFlagRequired("name")
	cmd.MarkFlagRequired("role")
	cmd.RegisterFlagCompletionFunc("role", cobra.FixedCompletions([]string{"read", "operate", "admin"},
		cobra.ShellCompDirectiveNoFileComp))
	cmd.RegisterFlagCompletionFunc("scope", a.completeScope)
	return cmd
}

func (a *app) tokenListCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the tokens: role, scope, end, and who made them",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := ask(a, cmd, (*api.Client).Tokens, tokensTable)
			return err
		},
	}
}

func (a *app) tokenRevokeCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "revoke NAME",
		Short: "End a token: at once on the replica that is asked, within a refresh on the others",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			err := a.call(cmd, usual, func(ctx context.Context, c *api.Client) error {
				return c.RevokeToken(ctx, args[0])
			})
			if err == nil {
				fmt.Fprintf(a.err, "the token %s is revoked; the other replicas know it within a refresh\n", args[0])
			}
			return err
		},
	}
}

func tokensTable(w io.Writer, all api.Tokens) {
	row(w, "NAME", "ROLE", "SCOPE", "STATE", "ENDS", "MADE", "BY")
	for _, t := range all.Tokens {
		scope, ends, state := t.Scope, "-", t.State
		if scope == "" {
			scope = "-"
		}
		if t.Expires != nil {
			ends = t.Expires.Local().Format("2006-01-02 15:04:05")
		}
		if t.Problem != "" {
			state += ": " + t.Problem
		}
		row(w, t.Name, t.Role, scope, state, ends, t.Made.Local().Format("2006-01-02 15:04:05"), t.By)
	}
}
