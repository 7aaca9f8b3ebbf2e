package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/lockstep-tls/lockstep/cmd/internal/api"
	"github.com/lockstep-tls/lockstep/cmd/internal/kek"
	"github.com/lockstep-tls/lockstep/seal"
)

// kekFor bounds the sealing anew of a large store.
const kekFor = 30 * time.Minute

func (a *app) kekCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "kek",
		Short: "Show and change the key that seals what is stored",
	}
	cmd.AddCommand(a.kekStatusCommand(), a.kekRotateCommand(), a.kekRetireCommand(), a.kekNewCommand())
	return cmd
}

func (a *app) kekStatusCommand() *cobra.Command {
	return &cobra.Command{
		Use: "status",
		Short: "Show the sealing keys, who has them, and how far the records are sealed with the present one " +
			"(exit code 3: not well)",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			k, err := ask(a, cmd, (*api.Client).KEK, kekTable)
			if err == nil && k.Problem != "" {
				err = fail(exitDegraded, "degraded: %s", k.Problem)
			}
			return err
		},
	}
}

func (a *app) kekRotateCommand() *cobra.Command {
	var retire bool
	var file string
	cmd := &cobra.Command{
		Use:   "rotate [--retire] | rotate --file KEYSET",
		Short: "Seal everything that is stored with a new key, without a stop",
		Long: "Add a new key to the keyset, let it seal once every replica has it, and seal every record anew. It " +
			"goes on if this is interrupted.\n" +
			"With --retire, then drop the old keys, once a full scan has proved that the new one opens every " +
			"record.\n" +
			"With --file, only change a keyset file by one step, for sources that lockstepd cannot write: first " +
			"the new key opens, with the next call\n" +
			"it seals. Put the file in its place at each replica after each step. Before the last one (--file " +
			"with --retire), run lockstep kek retire: it proves\n" +
			"that the old keys are not needed.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if file != "" {
				return a.kekStep(cmd.Context(), file, retire)
			}
			return a.call(cmd, kekFor, func(ctx context.Context, c *api.Client) error {
				k, err := c.RotateKEK(ctx)
				if err != nil {
					return err
				}
				if k, err = a.awaitKEK(ctx, k, c.KEK); err != nil {
					return err
				}
				if retire {
					return a.retireKEK(ctx, c)
				}
				return show(a, k, kekTable)
			})
		},
	}
	cmd.Flags().BoolVar(&retire, "retire", false, "drop the old keys in the end")
	cmd.Flags().StringVar(&file, "file", "", "the keyset `file` to change, without lockstepd")
	return cmd
}

func (a *app) kekRetireCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "retire",
		Short: "Drop the old sealing keys, once a full scan has proved that the present one opens every record",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.call(cmd, kekFor, a.retireKEK)
		},
	}
}

func (a *app) retireKEK(ctx context.Context, c *api.Client) error {
	r, err := c.RetireKEK(ctx)
	if err != nil {
		return err
	}
	return show(a, r, func(w io.Writer, r api.KEKRetired) {
		if r.Nothing {
			row(w, fmt.Sprintf("there is no key besides %s: nothing was changed", r.Primary))
			return
		}
		row(w, fmt.Sprintf("the key %s opens each of %d records; the old keys were dropped", r.Primary, r.Proved))
	})
}

func (a *app) kekNewCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "new FILE",
		Short: "Make a keyset in a new file (mode 0600); it needs no lockstepd",
		Long: "Make a keyset in a new file (mode 0600). lockstepd takes it by --kek FILE, --kek credential:NAME " +
			"(systemd), or --kek env:VARIABLE, which\n" +
			"holds it in base64 (base64 -w0 FILE).",
		Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			s, err := seal.Create(args[0])
			if err != nil {
				return err
			}
			fmt.Fprintf(a.err, "%s holds the key %s; keep a copy where the store's backups are not\n", args[0],
				s.State().Primary)
			return nil
		},
	}
}

// kekStep changes a keyset file by one step.
func (a *app) kekStep(ctx context.Context, file string, retire bool) error {
	s, err := seal.Load(ctx, kek.File(file))
	if err != nil {
		return err
	}
	st := s.State()
	next := ""
	switch {
	case len(st.Staged) > 0:
		if st, err = s.Promote(ctx, st.Staged[len(st.Staged)-1]); err == nil {
			next = fmt.Sprintf(
				"the key %s seals. Put the file in its place at each replica; lockstepd then seals every record "+
					"anew (lockstep kek status)", st.Primary)
		}
	case retire:
		if st, err = s.Retire(ctx, st.Primary); err == nil {
			next = fmt.Sprintf(
				"only the key %s is left in this file. Before it goes anywhere, run `lockstep kek retire`: it "+
					"proves that %[1]s alone opens every record and that every "+
					"replica seals with it, and changes nothing where the source cannot be written. Only if it "+
					"says so, put the file in its place at each replica", st.Primary)
		}
	default:
		if st, err = s.Stage(ctx); err == nil {
			next = fmt.Sprintf(
				"the key %s was added, and only opens. Put the file in its place at each replica, wait until "+
					"`lockstep kek status` shows it with all of them, and call this again", st.Staged[0])
		}
	}
	if err != nil {
		return err
	}
	fmt.Fprintln(a.err, next)
	return nil
}

// awaitKEK polls until every record is sealed with the new key.
func (a *app) awaitKEK(ctx context.Context, k api.KEK, poll func(context.Context) (api.KEK, error)) (api.KEK, error) {
	p := newProgress(a.err)
	defer p.clear()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		switch k.Phase {
		case "steady", "resealed":
			return k, nil
		case "distributing":
			who := strings.Join(k.WaitsFor, ", ")
			p.line("the new key is being distributed", "waiting for "+cmp.Or(who, "replicas"))
		default:
			if len(k.WaitsFor) > 0 {
				p.line("the new key seals", "waiting until nobody writes with an old one: "+strings.Join(k.WaitsFor,
					", "))
			} else {
				p.line("sealing records anew", fmt.Sprintf("%d of %d", k.Seen, k.Records))
			}
		}
		select {
		case <-ctx.Done():
			if ctx.Err() == context.DeadlineExceeded {
				return k, fail(
					exitTimedOut, "not every record was sealed anew within %s (--timeout); it goes on: lockstep "+
						"kek status shows it%s", a.limit, waits(k))
			}
			return k, errors.New("interrupted; it goes on: lockstep kek status shows it")
		case <-tick.C:
		}
		if now, err := poll(ctx); err == nil {
			k = now
		} else if final(err) {
			return k, err
		}
	}
}

func waits(k api.KEK) string {
	if len(k.WaitsFor) == 0 {
		return ""
	}
	return ". It waits for replicas that lack the key, or do not seal with it yet: " + strings.Join(k.WaitsFor, ", ") +
		" (bring them the keyset)"
}

func kekTable(w io.Writer, k api.KEK) {
	row(w, "SOURCE", "PHASE", "SEALS", "STAGED", "OLD")
	row(w, k.Source, k.Phase, k.Primary, strings.Join(k.Staged, " "), strings.Join(k.Old, " "))
	if k.Records > 0 {
		row(w, fmt.Sprintf("  %d of %d records seen, %d sealed anew", k.Seen, k.Records, k.Resealed))
	}
	fmt.Fprintln(w)
	row(w, "  REPLICA", "SEALS", "HOLDS", "SAID")
	for _, r := range k.Replicas {
		row(w, "  "+r.Replica, r.Primary, strings.Join(r.Keys, " "), since(r.At)+" ago")
	}
	list(w, "waits for", k.WaitsFor)
	list(w, "opens with no key", k.Bad)
	if k.Phase == "resealed" {
		row(w, "  every record is sealed with "+k.Primary+"; drop the old keys with: lockstep kek retire")
	}
	if k.Problem != "" {
		row(w, "  problem: "+k.Problem)
	}
}
