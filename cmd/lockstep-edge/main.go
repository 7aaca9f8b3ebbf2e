// Lockstep-edge is the bundled proxy. It terminates TLS with certificates and session ticket keys
// of the control plane, and forwards to upstreams.
//
// This package has only the command line and what concerns the process as a whole. Package
// cmd/internal/edge puts the parts together.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"runtime"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/lockstep-tls/lockstep/cmd/internal/check"
	"github.com/lockstep-tls/lockstep/cmd/internal/edge"
	"github.com/lockstep-tls/lockstep/cmd/internal/logs"
	"github.com/lockstep-tls/lockstep/cmd/internal/process"
	"github.com/lockstep-tls/lockstep/cmd/internal/version"
)

// ballast makes the garbage collector wait for 48 MiB more of garbage before it begins. It is
// never touched, so it takes no memory. An edge often holds little more than a few requests leave
// behind. Without ballast the collector would run all the time.
var ballast = make([]byte, 48<<20)

// hangup gets SIGHUP from the start on, so that it never ends the process.
var hangup = make(chan os.Signal, 1)

func main() {
	signal.Notify(hangup, syscall.SIGHUP)
	process.OutliveReaders()
	defer runtime.KeepAlive(ballast)
	if err := process.Protect(); err != nil {
		fmt.Fprintln(os.Stderr, "lockstep-edge:", err)
		os.Exit(1)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	if err := command().ExecuteContext(ctx); err != nil {
		if !errors.Is(err, edge.ErrLogged) {
			fmt.Fprintln(os.Stderr, "lockstep-edge:", err)
		}
		os.Exit(check.ExitCode(err, os.Args[1:]))
	}
}

func command() *cobra.Command {
	cfg := edge.Default()
	file := os.Getenv("LOCKSTEP_EDGE_CONFIG")
	var only bool
	cmd := &cobra.Command{
		Use: "lockstep-edge --config edge.yaml",
		Short: "Terminates TLS with the fleet's certificates and session ticket keys, and forwards to " +
			"upstreams",
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		Version:       version.Get().String(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if only {
				return edge.Check(cmd.OutOrStdout(), file, cmd.Flags(), os.Getenv)
			}
			if err := cfg.Load(file, cmd.Flags(), os.Getenv); err != nil {
				return err
			}
			log := logs.New(os.Stderr, cfg.LogFormat, logs.Level(cfg.LogLevel), nil)
			logs.Libraries(log)
			e, err := edge.New(cfg, log, logs.New(os.Stdout, cfg.LogFormat, slog.LevelInfo, nil))
			if err != nil {
				return err
			}
			e.Reloading(file, edge.Again(file, cmd.Flags(), os.Getenv), hangup)
			return e.Run(cmd.Context())
		},
	}
	cmd.Flags().StringVar(&file, "config", file, "YAML file (edge.yaml)")
	cmd.Flags().BoolVar(&only, "check", false, "read configuration and files as a start would, change nothing, "+
		"name every problem, and end")
	cfg.Flags(cmd.Flags())
	return cmd
}
