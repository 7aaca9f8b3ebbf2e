package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/lockstep-tls/lockstep/cmd/internal/api"
	"github.com/lockstep-tls/lockstep/rotation"
)

// change is what rotate, rollback and burn have in common.
type change struct {
	wait   bool
	giveUp bool // giveUp ends a wait when it is only for nodes that must be restarted.
	why    string
	call   func(c *api.Client, ctx context.Context, scope string, r api.RotateRequest) (api.Started, error)
}

func (a *app) rotateCommand() *cobra.Command {
	ch := change{call: (*api.Client).Rotate}
	var file string
	cmd := &cobra.Command{
		Use: "rotate [SCOPE]",
		Short: "Bring a new key into use, without refusing a live ticket; joins a rotation that is " +
			"under way",
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: a.completeScope,
		RunE: func(cmd *cobra.Command, args []string) error {
			var key []byte
			if cmd.Flags().Changed("key-file") {
				var err error
				if key, err = a.readKey(file); err != nil {
					return err
				}
			}
			return a.change(cmd, ch, scopeOf(args), key)
		},
	}
	ch.flags(cmd)
	cmd.Flags().StringVar(
		&file, "key-file", "", "`file` with the key, as nginx and Envoy have it: 80 bytes, raw, base64 or hex; - "+
			"is standard input (default: lockstepd makes a key)")
	return cmd
}

func (a *app) rollbackCommand() *cobra.Command {
	ch := change{call: (*api.Client).Rollback}
	cmd := &cobra.Command{
		Use:               "rollback [SCOPE]",
		Short:             "Undo the newest change of the scope's keys, without refusing a live ticket",
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: a.completeScope,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.change(cmd, ch, scopeOf(args), nil)
		},
	}
	ch.flags(cmd)
	return cmd
}

func (a *app) burnCommand() *cobra.Command {
	ch := change{call: (*api.Client).Burn, giveUp: true}
	var yes bool
	cmd := &cobra.Command{
		Use:   "burn [SCOPE]",
		Short: "Replace every key of the scope at once, since one has leaked: live tickets are refused",
		Long: "Replace every key of the scope at once, since one has leaked. No key that is burnt is ever taken " +
			"again.\n" +
			"Live tickets are refused from then on: every client makes a full handshake. With --wait the exit " +
			"code is 3 as soon as all nodes that\n" +
			"may still take a burnt key are such that must be restarted; they are named.",
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: a.completeScope,
		RunE: func(cmd *cobra.Command, args []string) error {
			if !yes {
				// what cannot be done is said before anybody is asked
				err := a.call(cmd, usual, func(ctx context.Context, c *api.Client) error {
					_, err := c.Plan(ctx, scopeOf(args))
					return err
				})
				if err == nil {
					err = a.confirm(cmd, scopeOf(args))
				}
				if err != nil {
					return err
				}
			}
			return a.change(cmd, ch, scopeOf(args), nil)
		},
	}
	ch.flags(cmd)
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return cmd
}

func (ch *change) flags(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&ch.wait, "wait", false, "wait for the end and show the progress")
	cmd.Flags().StringVar(&ch.why, "why", "", "the `reason`, for the history")
}

// confirm asks a person on a terminal, and fails elsewhere.
func (a *app) confirm(cmd *cobra.Command, scope string) error {
	if width(a.in) == 0 {
		return usage("burn makes every client of scope %q do a full handshake: say --yes", scope)
	}
	fmt.Fprintf(a.err, "Burn every key of scope %s? Every client makes a full handshake. [y/N] ", scope)
	// nothing ends a read from a terminal early, but the process ends soon
	read := make(chan string, 1)
	go func() {
		line, _ := bufio.NewReader(a.in).ReadString('\n')
		read <- strings.ToLower(strings.TrimSpace(line))
	}()
	select {
	case line := <-read:
		if line == "y" || line == "yes" {
			return nil
		}
		return fail(exitFailed, "nothing was burnt")
	case <-cmd.Context().Done():
		return cmd.Context().Err()
	}
}

// waitFor bounds a command with --wait.
const waitFor = 5 * time.Minute

// change asks lockstepd for a change, and shows what began, or with --wait how it ended.
func (a *app) change(cmd *cobra.Command, ch change, scope string, key []byte) error {
	limit := usual
	if ch.wait {
		limit = waitFor
	}
	q := api.RotateRequest{By: me(), Why: ch.why, Key: key}
	return a.call(cmd, limit, func(ctx context.Context, c *api.Client) error {
		return a.carryOut(ctx, c, ch, scope, q)
	})
}

func (a *app) carryOut(ctx context.Context, c *api.Client, ch change, scope string, q api.RotateRequest) error {
	began, err := ch.call(c, ctx, scope, q)
	if err != nil {
		return err
	}
	if !ch.wait || began.Rotation == 0 {
		return show(a, began, func(w io.Writer, s api.Started) { row(w, s.Message) })
	}
	fmt.Fprintln(a.err, began.Message)
	end, stuck := a.await(ctx, began, ch.giveUp, a.poll(began))
	if stuck != nil && !errors.Is(stuck, errStuck) {
		return stuck
	}
	if err := show(a, end, endTable); err != nil {
		return err
	}
	if stuck != nil {
		return stuck
	}
	if !slices.Contains([]rotation.LineKind{rotation.LineDone, rotation.LineBurnt}, rotation.LineKind(end.Outcome)) {
		return fail(exitFailed, "rotation %d of scope %q was %s: lockstep history %[2]s tells by whom and why",
			end.Rotation, end.Scope, end.Outcome)
	}
	return nil
}

func endTable(w io.Writer, r api.Rotation) {
	if !r.Ended {
		row(w, fmt.Sprintf("rotation %d of scope %s: %s, version %s, %s", r.Rotation, r.Scope, r.Phase, r.Version,
			countText(r.Nodes)))
		list(w, "restart this Envoy", r.Stuck)
		return
	}
	row(w, fmt.Sprintf("rotation %d of scope %s: %s, version %s, %s", r.Rotation, r.Scope, r.Outcome, r.Version,
		countText(r.Nodes)))
	for _, l := range r.Lines {
		row(w, "  "+sentence(l))
	}
}
