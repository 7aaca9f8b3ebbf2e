package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/lockstep-tls/lockstep/cmd/internal/api"
)

func (a *app) historyCommand() *cobra.Command {
	return &cobra.Command{
		Use:               "history [SCOPE]",
		Short:             "Show what changed the keys of a scope: when, who, why, which key, which nodes, how long",
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: a.completeScope,
		RunE: func(cmd *cobra.Command, args []string) error {
			_, err := ask(a, cmd, func(c *api.Client, ctx context.Context) (api.History, error) {
				return c.History(ctx, scopeOf(args))
			}, historyTable)
			return err
		},
	}
}

func historyTable(w io.Writer, h api.History) {
	for _, l := range h.Lines {
		row(w, sentence(l))
	}
}

// sentence writes one line of a history in words.
func sentence(l api.Line) string {
	var b strings.Builder
	if l.Generation == 0 && l.Text != "" { // it is about no ring
		return fmt.Sprintf("%s %s %s", l.At.Local().Format("2006-01-02 15:04:05.000"), l.Kind, l.Text)
	}
	fmt.Fprintf(&b, "%s %s g%d %s", l.At.Local().Format("2006-01-02 15:04:05.000"), l.Scope, l.Generation, l.What)
	say := func(ok bool, format string, args ...any) {
		if ok {
			fmt.Fprintf(&b, format, args...)
		}
	}
	say(l.Rotation > 0, ", rotation %d", l.Rotation)
	say(l.Key != "", ", key %s", l.Key)
	say(l.Nodes > 0, ", %d nodes", l.Nodes)
	say(l.Seconds > 0, ", took %s", short(time.Duration(l.Seconds*float64(time.Second))))
	say(len(l.WaitedFor) > 0, ", waited for %s", strings.Join(l.WaitedFor, " "))
	say(len(l.LeftBehind) > 0, ", left behind %s", strings.Join(l.LeftBehind, " "))
	say(l.By != "", ", by %s", l.By)
	say(l.Why != "", ": %s", l.Why)
	return b.String()
}

// scopeOf returns the scope that the arguments of a command name.
func scopeOf(args []string) string {
	if len(args) == 0 {
		return "default"
	}
	return args[0]
}
