package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/lockstep-tls/lockstep/cmd/internal/api"
)

// listFor bounds a list. It is long because a filter may look at all that is stored.
const listFor = 5 * time.Minute

func (a *app) certListCommand() *cobra.Command {
	var (
		q       api.CertsQuery
		within  days
		expired bool
	)
	cmd := &cobra.Command{
		Use:   "list [PREFIX]",
		Short: "List the certificates whose names begin with PREFIX",
		Long: "List the certificates whose names begin with PREFIX, by name, at most --limit of them. Where there " +
			"are more, standard error says how\n" +
			"to go on, and -o json has .next, for --after.",
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if q.Limit < 1 {
				return usage("--limit %d: it must be at least 1", q.Limit)
			}
			switch {
			case expired && cmd.Flags().Changed("expires-within"):
				return usage("--expired and --expires-within: give one of them")
			case expired:
				q.Expires = new(time.Duration)
			case cmd.Flags().Changed("expires-within"):
				q.Expires = (*time.Duration)(&within)
			}
			q.Prefix = strings.Join(args, "")
			return a.call(cmd, listFor, func(ctx context.Context, c *api.Client) error {
				l, err := pages(ctx, c, q)
				if err != nil {
					return err
				}
				if err := show(a, l, certsTable); err != nil {
					return err
				}
				if l.Next != "" && a.format == "table" {
					fmt.Fprintf(a.err, "there may be more: --after %q\n", l.Next)
				}
				return nil
			})
		},
	}
	f := cmd.Flags()
	f.IntVar(&q.Limit, "limit", api.MaxPage, "at most so many")
	f.StringVar(&q.After, "after", "", "go on behind this `name`, as the list before said")
	f.Var(&within, "expires-within", "only those that expire within this `time`, such as 30d or 12h, or have expired")
	f.BoolVar(&expired, "expired", false, "only those that have expired")
	return cmd
}

// pages reads page after page until it has q.Limit certificates, or there are no more.
func pages(ctx context.Context, c *api.Client, q api.CertsQuery) (all api.Certs, err error) {
	all.Certs = []api.Cert{}
	for most := q.Limit; ; {
		q.Limit = min(most-len(all.Certs), api.MaxPage)
		l, err := c.Certs(ctx, q)
		if err != nil {
			return all, err
		}
		all.Certs, all.Next, q.After = append(all.Certs, l.Certs...), l.Next, l.Next
		if l.Next == "" || len(all.Certs) >= most {
			return all, nil
		}
	}
}

// days is a duration that may be written in days, such as 30d.
type days time.Duration

var _ pflag.Value = (*days)(nil)

func (d *days) Set(s string) error {
	if n, ok := strings.CutSuffix(s, "d"); ok {
		whole, err := strconv.ParseUint(n, 10, 16)
		if err != nil {
			return fmt.Errorf("%q is no number of days", s)
		}
		*d = days(time.Duration(whole) * 24 * time.Hour)
		return nil
	}
	v, err := time.ParseDuration(s)
	if err != nil || v < 0 {
		return fmt.Errorf("%q is no time such as 30d or 12h", s)
	}
	*d = days(v)
	return nil
}

func (d *days) String() string { return time.Duration(*d).String() }
func (d *days) Type() string   { return "duration" }
