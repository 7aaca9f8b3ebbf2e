package main

import (
	"context"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/lockstep-tls/lockstep/cmd/internal/api"
	"github.com/lockstep-tls/lockstep/rotation"
)

func (a *app) statusCommand() *cobra.Command {
	var (
		code, why string
		d         time.Duration
	)
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show the scopes, their keys and nodes, and what is not well (then the exit code is 3)",
		Long: "Show the scopes, their keys and nodes, and what is not well (then the exit code is 3).\n\n" +
			"With --ack CODE nothing is shown: all replicas note that you know about the problems of that code. " +
			"They make the exit code 3 no more, until --for has passed, they begin anew, or they get worse.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if code != "" {
				return a.acknowledge(cmd, code, why, d)
			}
			if cmd.Flags().Changed("why") || cmd.Flags().Changed("for") {
				return usage("--why and --for belong to --ack CODE")
			}
			s, err := ask(a, cmd, (*api.Client).Status, statusTable)
			if err == nil && len(s.Degraded) > 0 {
				err = fail(exitDegraded, "degraded: %s", mostSevere(s.Degraded))
			}
			return err
		},
	}
	cmd.Flags().StringVar(&code, "ack", "", "the `code` of the problems that you know about")
	cmd.Flags().StringVar(&why, "why", "", "with --ack: the `reason`, for those who look at status")
	cmd.Flags().DurationVar(&d, "for", 24*time.Hour, "with --ack: for how long, at most 2160h; 0 takes it back")
	return cmd
}

// acknowledge says that the caller knows about the problems of a code.
func (a *app) acknowledge(cmd *cobra.Command, code, why string, d time.Duration) error {
	if d < 0 {
		return usage("--for %s: it must not be negative; 0 takes it back", d)
	}
	err := a.call(cmd, usual, func(ctx context.Context, c *api.Client) error {
		return c.Acknowledge(ctx, code, api.AckRequest{By: me(), Why: why, Seconds: d.Seconds()})
	})
	if err != nil {
		return err
	}
	if d == 0 {
		fmt.Fprintf(a.err, "%s is no longer acknowledged\n", code)
	} else {
		fmt.Fprintf(a.err, "%s is acknowledged for %s, unless it begins anew or gets worse\n", code, short(d))
	}
	return nil
}

// maxSaid is how many problems the error of status names. The table has them all.
const maxSaid = 3

// mostSevere names the first problems, the most severe ones, and says how many more there are.
func mostSevere(all []string) string {
	if len(all) <= maxSaid {
		return strings.Join(all, "; ")
	}
	return fmt.Sprintf("%s; and %d more", strings.Join(all[:maxSaid], "; "), len(all)-maxSaid)
}

func statusTable(w io.Writer, s api.Status) {
	fmt.Fprintf(w, "lockstepd %s, replica %s, up %s, store %s, %d xDS streams\n", s.Version, s.Replica,
		since(s.Started), s.Store, s.Streams)
	problemTable(w, s)
	replicaTable(w, s.Replicas)
	for _, sc := range s.Scopes {
		fmt.Fprintln(w)
		scopeTable(w, sc)
	}
	if len(s.Troubles) > 0 {
		fmt.Fprintln(w)
		row(w, "SECRET", "STATE", "NODES", "FOR", "ONE OF THEM", "ITS WORDS")
		for _, t := range s.Troubles {
			row(w, t.Name, t.State, fmt.Sprint(t.Nodes), since(t.Since), t.Node, t.Words)
		}
	}
	c := s.Certs
	fmt.Fprintf(w, "\ncertificates: %d in the directory, %d wanted by nodes\n", c.Directory, c.Watched)
	list(w, "problem", c.Problems)
	list(w, "warning", c.Warnings)
	list(w, "held back (give up with: lockstep cert rm --confirm)", c.Held)
	list(w, "in the directory, which wins, and in the store", c.Clashes)
	if len(c.Nearest)+len(c.Own) == 0 {
		return
	}
	fmt.Fprintln(w)
	row(w, "ENDS NEXT", "SOURCE", "IN", "STATE")
	for _, e := range slices.Concat(c.Nearest, c.Own) {
		row(w, e.Name, sourceWords(e.Source), until(e.NotAfter), e.State)
	}
	if c.KnownAt.IsZero() && len(c.Nearest) > 0 {
		fmt.Fprintln(w, "the store is being looked through; others may end sooner")
	}
}

// sourceWords says where a certificate comes from. Those of lockstepd itself are in no source.
func sourceWords(source string) string {
	switch source {
	case "own":
		return "lockstepd's own"
	case "client_ca":
		return "CA of those who may connect"
	}
	return source
}

// problemTable has a problem in each line, the most severe first. An older lockstepd says only what
// makes it degraded.
func problemTable(w io.Writer, s api.Status) {
	if len(s.Problems) == 0 {
		return
	}
	fmt.Fprintln(w)
	row(w, "SEVERITY", "PROBLEM", "FOR", "WHAT IS WRONG, AND WHAT TO DO NEXT")
	for _, p := range s.Problems {
		what := p.Text
		if p.Next != "" {
			what += ". Next: " + p.Next
		}
		if len(p.Replicas) > 0 {
			what = "at " + strings.Join(p.Replicas, ", ") + ": " + what
		}
		severity := string(p.Severity)
		if k := p.Acknowledged; k != nil {
			severity = "(" + severity + ")"
			who := k.By
			if k.Why != "" {
				who += " (" + k.Why + ")"
			}
			what = fmt.Sprintf("acknowledged by %s, ends %s: %s", who, until(k.Until), what)
		}
		row(w, severity, p.Code, since(p.Since), what)
	}
}

// replicaTable has a replica in each line. One that is alone is named above.
func replicaTable(w io.Writer, all []api.Replica) {
	if len(all) < 2 {
		return
	}
	fmt.Fprintln(w)
	row(w, "REPLICA", "VERSION", "STATE", "FOR", "ANSWERS", "CLOCK OFF")
	for _, r := range all {
		answers := "no"
		switch {
		case r.State == api.ReplicaHere:
			answers = ""
		case r.Answers && r.MoreProblems > 0:
			answers = fmt.Sprintf("yes; %d more problems there", r.MoreProblems)
		case r.Answers:
			answers = "yes"
		case r.Silent != "":
			answers = "no: " + r.Silent
		}
		clock := ""
		if r.SkewSeconds != nil {
			clock = short(time.Duration(math.Abs(*r.SkewSeconds) * float64(time.Second)))
		}
		row(w, r.Replica, r.Version, r.State, since(r.Since), answers, clock)
	}
}

func scopeTable(w io.Writer, s api.Scope) {
	row(w, "SCOPE", "PHASE", "FOR", "VERSION", "NEXT ROTATION", "NODES")
	next := until(s.NextAt)
	if s.Underway {
		next = fmt.Sprintf("%d under way", s.Rotation)
		if !s.RetryAt.IsZero() {
			next += ", next try " + until(s.RetryAt)
		}
	}
	row(w, s.Scope, phaseText(s.Phase, s.Underway), since(s.Since), s.Version, next, countText(s.Nodes))
	fmt.Fprintln(w)
	row(w, "  KEY", "ROLE", "AGE", "RETIRES")
	for _, k := range s.Keys {
		retires := ""
		if k.RetireAt != nil {
			retires = until(*k.RetireAt)
		} else if k.Role == "drain" {
			retires = "once no live node encrypts with it"
		}
		row(w, "  "+k.ID, k.Role, since(k.Created), retires)
	}
	requestLines(w, s.Requests)
	list(w, "blocked by", s.BlockedBy)
}

// requestLines says how many rotations may be asked for.
func requestLines(w io.Writer, q *api.Requests) {
	if q == nil {
		return
	}
	again := func(at time.Time) string {
		if at.IsZero() {
			return "none"
		}
		return "one more " + until(at)
	}
	switch {
	case q.Left == 0:
		row(w, "  rotations that may be asked for: "+again(q.AgainAt))
	case q.LeftToYou == 0:
		row(w, fmt.Sprintf("  rotations that may be asked for: %d, by others; by you %s", q.Left, again(q.AgainAt)))
	default:
		row(w, fmt.Sprintf("  rotations that may be asked for: %d, by you %d", q.Left, q.LeftToYou))
	}
	for _, by := range q.By {
		left := again(by.AgainAt)
		if by.Left > 0 {
			left = fmt.Sprint(by.Left)
		}
		row(w, fmt.Sprintf("  asked for by %s: %d keys of the ring; it may ask for %s", by.Name, by.Keys, left))
	}
}

// phaseText is the phase as people read it: a rotation that is under way between two tries, or
// before its first, waits.
func phaseText(phase string, underway bool) string {
	if underway && phase == string(rotation.Steady) {
		return "waiting"
	}
	return phase
}

// countText says how many nodes a scope has, and how many of them are what. It leaves out the
// counts that are zero, except accepted.
func countText(c api.Count) string {
	s := fmt.Sprintf("%d nodes: %d accepted", c.Live, c.Accepted)
	for _, more := range []struct {
		n    int
		what string
	}{{c.Refused, "refused"}, {c.Stale, "stale"}, {c.Away, "away"}, {c.Excluded, "excluded"}} {
		if more.n > 0 {
			s += fmt.Sprintf(", %d %s", more.n, more.what)
		}
	}
	return s
}
