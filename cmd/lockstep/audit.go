package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/lockstep-tls/lockstep/cmd/internal/api"
)

func (a *app) auditCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "audit",
		Short: "Show and verify the audit log: who changed which key, when and why",
	}
	cmd.AddCommand(a.auditShowCommand(), a.auditItemsCommand(), a.auditVerifyCommand(), a.auditMendCommand())
	return cmd
}

func (a *app) auditShowCommand() *cobra.Command {
	var last int
	cmd := &cobra.Command{
		Use:   "show",
		Short: "Show the newest lines of the audit log",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := ask(a, cmd, func(c *api.Client, ctx context.Context) (api.Audit, error) {
				return c.Audit(ctx, last)
			}, auditLogTable)
			return err
		},
	}
	cmd.Flags().IntVar(&last, "last", 50, "how many lines")
	return cmd
}

func (a *app) auditItemsCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "items DIGEST",
		Short: "Show the certificates that a line of the audit log stands for, with their versions",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			_, err := ask(a, cmd, func(c *api.Client, ctx context.Context) (api.AuditItems, error) {
				return c.AuditItems(ctx, args[0])
			}, auditItemsTable)
			return err
		},
	}
}

func auditLogTable(w io.Writer, log api.Audit) {
	for _, l := range log.Lines {
		row(w, auditSentence(l))
	}
}

func auditItemsTable(w io.Writer, all api.AuditItems) {
	for _, it := range all.Items {
		row(w, it.Name, it.Key)
	}
}

func auditSentence(l api.AuditLine) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d %s %s", l.Number, l.At.Local().Format("2006-01-02 15:04:05.000"), l.What)
	say := func(ok bool, format string, args ...any) {
		if ok {
			fmt.Fprintf(&b, format, args...)
		}
	}
	say(l.Name != "", " %s", l.Name)
	say(l.Scope != "", ", scope %s g%d", l.Scope, l.Generation)
	say(l.Rotation > 0, ", rotation %d", l.Rotation)
	say(l.Key != "", ", key %s", l.Key)
	say(l.KeyID != "" && l.KeyID != l.Key, " (ID %s)", l.KeyID)
	say(len(l.Burnt) > 0, ", burnt %s", strings.Join(l.Burnt, " "))
	say(l.Nodes > 0, ", %d nodes", l.Nodes)
	say(l.Seconds > 0, ", took %s", short(time.Duration(l.Seconds*float64(time.Second))))
	say(len(l.WaitedFor) > 0, ", waited for %s", strings.Join(l.WaitedFor, " "))
	say(len(l.LeftBehind) > 0, ", left behind %s", strings.Join(l.LeftBehind, " "))
	say(l.Items != "", ", %d certificates (lockstep audit items %s)", l.Times, l.Items)
	say(l.Items == "" && l.Times > 1, ", %d times", l.Times)
	say(l.Actor != "", ", by %s", l.Actor)
	say(l.Replica != "", ", on %s", l.Replica)
	say(l.Made != nil && !*l.Made && l.Scope == "", ", NOT DONE: it was refused, as a later line says")
	say(l.Made != nil && !*l.Made && l.Scope != "", ", NOT MADE: another change came first or has still to follow")
	say(l.Why != "", ": %s", l.Why)
	return b.String()
}

func (a *app) auditVerifyCommand() *cobra.Command {
	var files []string
	cmd := &cobra.Command{
		Use:   "verify [--file FILE]",
		Short: "Look for lines that were changed, left out, reordered or cut off (then the exit code is 1)",
		Long: "verify looks for lines of the audit log that were changed, left out, reordered or cut off: in the " +
			"store, or in a file that\n" +
			"--audit-file or syslog wrote. lockstepd does it, which has the key; the file is sent to it.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			found, err := a.verifyAudit(cmd, files)
			if err != nil {
				return err
			}
			if err := show(a, found, auditTable); err != nil {
				return err
			}
			problems := 0
			for _, r := range found.Reports {
				problems += len(r.Problems) + r.More
			}
			switch {
			case problems > 0:
				return fail(exitFailed, "the audit log is not as it was written: %d problems", problems)
			case len(files) > 0 && len(found.Reports) == 0:
				return fail(exitFailed, "%s: no line of an audit log is in it", strings.Join(files, ", "))
			}
			return nil
		},
	}
	cmd.Flags().StringArrayVar(&files, "file", nil,
		"a `file` with the log instead of the store; once for each piece where it was rotated, oldest first")
	return cmd
}

// verifyWithin bounds the verification. It suits a log of millions of lines.
const verifyWithin = 2 * time.Minute

// verifyAudit has lockstepd verify what stands in the store, or in files if there are any.
func (a *app) verifyAudit(cmd *cobra.Command, files []string) (found api.AuditReports, err error) {
	if len(files) == 0 {
		err = a.call(cmd, verifyWithin, func(ctx context.Context, c *api.Client) (err error) {
			found, err = c.VerifyAudit(ctx)
			return err
		})
		return found, err
	}
	err = a.call(cmd, verifyWithin, func(ctx context.Context, c *api.Client) (err error) {
		var all []io.Reader
		for _, name := range files {
			f, err := os.Open(name)
			if err != nil {
				return err
			}
			defer f.Close()
			// the next one begins on a line of its own
			all = append(all, f, strings.NewReader("\n"))
		}
		found, err = c.VerifyAuditLines(ctx, io.MultiReader(all...))
		return err
	})
	return found, err
}

func auditTable(w io.Writer, found api.AuditReports) {
	for _, r := range found.Reports {
		if len(r.Problems) == 0 {
			row(w, fmt.Sprintf("%s: %d lines, each as it was written, none missing", r.Chain, r.Lines))
			continue
		}
		row(w, fmt.Sprintf("%s: %d lines are as they were written", r.Chain, r.Lines))
		for _, p := range r.Problems {
			row(w, fmt.Sprintf("  %s: %s", p.Fault, p.Words))
		}
		if r.More > 0 {
			row(w, fmt.Sprintf("  and %d more", r.More))
		}
	}
}
