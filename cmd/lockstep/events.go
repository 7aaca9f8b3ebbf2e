package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/lockstep-tls/lockstep/cmd/internal/api"
)

// defaultSince is how far `lockstep events` looks back if nothing says how far.
const defaultSince = 24 * time.Hour

func (a *app) eventsCommand() *cobra.Command {
	var since, until string
	var q api.EventsQuery
	cmd := &cobra.Command{
		Use:   "events",
		Short: "Show what happened: nodes, certificates, rotations, settings, over all replicas by time",
		Long: "events shows what happened, over all replicas, by time. Each replica keeps its newest lines on its " +
			"own disk,\nsome ten thousand, also over a restart.\n\n" +
			"A time is 03:00 or 03:00:00 (the most recent one), 2026-11-30, 2026-11-30T03:00, RFC 3339,\n" +
			"or a duration before now, such as 2h, 2d or 1w. " +
			"Times without a zone are in the zone of this machine ($TZ), as those shown.\n" +
			"--kind takes a kind as it is shown, or a part of it: node, cert, refused, rotation, policy, problem.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			now := time.Now()
			if q.Since, q.Until, err = span(since, until, now); err != nil {
				return err
			}
			return a.call(cmd, usual, func(ctx context.Context, c *api.Client) error {
				all, err := allEvents(ctx, c, q)
				if err != nil {
					return err
				}
				all.Zone = zoneOf(now)
				for _, s := range all.Silent {
					fmt.Fprintln(a.err, "a replica did not answer, and what only it knows is missing:", s)
				}
				return show(a, all, eventsTable)
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&since, "since", "", "what happened from this `time` on (default: 24h)")
	f.StringVar(&until, "until", "", "what happened before this `time`")
	f.StringVar(&q.Node, "node", "", "only what is about this `node`")
	f.StringVar(&q.Host, "host", "", "only what is about the certificate of this `server name`")
	f.StringVar(&q.Kind, "kind", "", "only this `kind`, or kinds that it is a part of: node, cert, refused, …")
	cmd.RegisterFlagCompletionFunc("node", a.completeNode)
	return cmd
}

// allEvents reads all pages.
func allEvents(ctx context.Context, c *api.Client, q api.EventsQuery) (all api.Events, err error) {
	for {
		page, err := c.Events(ctx, q)
		if err != nil {
			return all, err
		}
		if q.After == "" {
			all = page
		} else {
			all.Events = append(all.Events, page.Events...)
			for _, s := range page.Silent {
				if !slices.Contains(all.Silent, s) {
					all.Silent = append(all.Silent, s)
				}
			}
		}
		all.Next = ""
		if page.Next == "" || page.Next == q.After {
			return all, nil
		}
		q.After = page.Next
	}
}

func eventsTable(w io.Writer, all api.Events) {
	if len(all.Events) == 0 {
		row(w, "nothing happened in that time (times are in "+all.Zone+")")
		return
	}
	row(w, "AT ("+all.Zone+")", "REPLICA", "KIND", "WHAT")
	for _, e := range all.Events {
		row(w, e.At.Local().Format("2006-01-02 15:04:05.000"), firstOf(e.Replica), e.Kind, e.Text)
	}
}

// firstOf is enough of a replica's name to tell it from the others.
func firstOf(replica string) string {
	if len(replica) > 8 {
		return replica[:8]
	}
	return replica
}

// zoneOf names the time zone of this machine at t, with its offset if the name says nothing.
func zoneOf(t time.Time) string {
	name, offset := t.Local().Zone()
	if offset == 0 && name == "UTC" {
		return name
	}
	return name + " " + t.Local().Format("-07:00")
}

// span returns the time from since until until. Each may be empty.
func span(since, until string, now time.Time) (from, to time.Time, err error) {
	from = now.Add(-defaultSince)
	sinceClock := false
	if since != "" {
		if from, sinceClock, err = when("--since", since, now); err != nil {
			return from, to, err
		}
	}
	if until == "" {
		return from, to, nil
	}
	to, clock, err := when("--until", until, now)
	switch {
	case err != nil:
		return from, to, err
	case clock && to.Before(from) && sinceClock && to.AddDate(0, 0, 1).Sub(from) > 12*time.Hour:
		from = from.AddDate(0, 0, -1) // that span has ended, and the next one has hardly begun
	case clock && to.Before(from): // it is the first one after since, which has not come yet
		to = to.AddDate(0, 0, 1)
	case since == "" && to.Before(from):
		from = to.Add(-defaultSince)
	}
	if !from.Before(to) {
		return from, to, usage("--since %s is not before --until %s (times are in %s)",
			from.Format(time.DateTime), to.Format(time.DateTime), zoneOf(now))
	}
	return from, to, nil
}

// when reads a time in the zone of this machine. clock reports that it is a time of day, which
// stands for the most recent one.
func when(flag, s string, now time.Time) (t time.Time, clock bool, err error) {
	if d, err := time.ParseDuration(s); err == nil && d >= 0 {
		return now.Add(-d), false, nil
	}
	for unit, n := range map[string]int{"d": 1, "w": 7} {
		if whole, ok := strings.CutSuffix(s, unit); ok {
			if many, err := strconv.ParseUint(whole, 10, 12); err == nil {
				return now.AddDate(0, 0, -n*int(many)), false, nil
			}
		}
	}
	now = now.Local()
	for _, form := range []string{"15:04", "15:04:05"} {
		t, err := time.ParseInLocation(form, s, time.Local)
		if err != nil {
			continue
		}
		at := func(day int) time.Time {
			return time.Date(now.Year(), now.Month(), day, t.Hour(), t.Minute(), t.Second(), 0, time.Local)
		}
		if t = at(now.Day()); t.After(now) {
			t = at(now.Day() - 1)
		}
		return t, true, nil
	}
	for _, form := range []string{
		time.RFC3339Nano, "2006-01-02T15:04:05", "2006-01-02T15:04", time.DateTime, "2006-01-02 15:04", time.DateOnly,
	} {
		if t, err := time.ParseInLocation(form, s, time.Local); err == nil {
			return t, false, nil
		}
	}
	return t, false, usage("%s %q is no time: give 03:00, 2026-11-30T03:00, RFC 3339, or a duration such as 2h or 2d",
		flag, s)
}
