// Lockstepd is the control plane. It streams certificates and session ticket keys to Envoy fleets,
// and rotates the keys in step.
//
// This package has only the command line and what concerns the process as a whole. Package
// cmd/internal/daemon puts the parts together.
package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/lockstep-tls/lockstep/cmd/internal/advice"
	"github.com/lockstep-tls/lockstep/cmd/internal/check"
	"github.com/lockstep-tls/lockstep/cmd/internal/check/plane"
	"github.com/lockstep-tls/lockstep/cmd/internal/config"
	"github.com/lockstep-tls/lockstep/cmd/internal/daemon"
	"github.com/lockstep-tls/lockstep/cmd/internal/live"
	"github.com/lockstep-tls/lockstep/cmd/internal/logs"
	"github.com/lockstep-tls/lockstep/cmd/internal/process"
	"github.com/lockstep-tls/lockstep/cmd/internal/version"
)

// gcPercent is how much garbage there may be beside what is in use, in percent. Most of what
// lockstepd holds is the cost of idle nodes, for which twice the memory would be much. $GOGC
// overrides it.
const gcPercent = 50

// hangup gets SIGHUP from the start on, so that it never ends the process.
var hangup = make(chan os.Signal, 1)

func main() {
	signal.Notify(hangup, syscall.SIGHUP)
	process.OutliveReaders()
	if err := process.Protect(); err != nil {
		fmt.Fprintln(os.Stderr, "lockstepd:", err)
		os.Exit(1)
	}
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	if err := command().ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "lockstepd:", advice.Add(err))
		os.Exit(check.ExitCode(err, os.Args[1:]))
	}
}

func command() *cobra.Command {
	cfg := config.Default()
	var file string
	var only bool
	cmd := &cobra.Command{
		Use:           "lockstepd",
		Short:         "Streams certificates and session ticket keys to a fleet of TLS proxies",
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		Version:       version.Get().String(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if file == "" {
				file = os.Getenv("LOCKSTEP_CONFIG")
			}
			if only {
				return plane.Run(cmd.Context(), cmd.OutOrStdout(), file, cmd.Flags(), os.Getenv)
			}
			if err := cfg.Load(file, cmd.Flags(), os.Getenv); err != nil {
				return err
			}
			if err := cfg.Forgotten(); err != nil {
				return err
			}
			level := new(slog.LevelVar)
			level.Set(logs.Level(cfg.LogLevel))
			d, err := daemon.New(cfg, logs.New(os.Stderr, cfg.LogFormat, level, advice.Log))
			if err != nil {
				return err
			}
			d.Reloading(live.Source{File: file, Load: config.Again(file, cmd.Flags(), os.Getenv), Level: level}, hangup)
			return d.Run(cmd.Context())
		},
	}
	cmd.Flags().StringVar(&file, "config", "", "YAML file; its keys are these flags with _ for -, and scopes")
	cmd.Flags().BoolVar(&only, "check", false, "read configuration and files as a start would, change nothing, "+
		"name every problem, and end")
	cfg.Flags(cmd.Flags())
	return cmd
}
