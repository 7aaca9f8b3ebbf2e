package main

import (
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
			c, err := a.reader()
			if err != nil {
				return err
			}
			ctx, cancel := a.within(cmd, usual)
			defer cancel()
			h, err := c.History(ctx, scopeOf(args))
			if err != nil {
				return err
			}
			return a.show(h, func(w io.Writer) {
				for _, l := range h.Lines {
					row(w, sentence(l))
				}
			})
		},
	}
}

func (a *app) watchCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "watch",
		Short: "Show what happens, line by line, until it is interrupted",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.reader()
			if err != nil {
				return err
			}
			ctx, cancel := a.within(cmd, 0)
			defer cancel()
			err = c.Watch(ctx, a.event)
			switch {
			case cmd.Context().Err() != nil:
				return nil // interrupted, as it is meant to be
			case err == nil:
				return fmt.Errorf("lockstepd closed the stream of events: it is stopping; start this again once it is back")
			}
			return err
		},
	}
}

// event prints one line; as JSON on one line too, and as a YAML document of its own.
func (a *app) event(l api.Line) error {
	var b []byte
	var err error
	switch a.format {
	case "json":
		b, err = toJSON(l, "")
	case "yaml":
		b, err = toYAML(l)
		b = append([]byte("---\n"), b...)
	default:
		b = []byte(visible(strings.Map(oneLine, sentence(l))) + "\n")
	}
	if err == nil {
		_, err = a.out.Write(b)
	}
	return err
}

// sentence is one line of a history.
func sentence(l api.Line) string {
	var b strings.Builder
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

// scopeOf is the scope that a command is about.
func scopeOf(args []string) string {
	if len(args) == 0 {
		return "default"
	}
	return args[0]
}
