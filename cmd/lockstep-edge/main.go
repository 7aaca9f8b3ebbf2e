// Lockstep-edge is the bundled proxy. It terminates TLS with certificates and session ticket keys
// of the control plane, and forwards to upstreams.
//
// This package has only the command line and what concerns the process as a whole. Package
// cmd/internal/edge puts the parts together.
package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"runtime"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/lockstep-tls/lockstep/cmd/internal/edge"
	"github.com/lockstep-tls/lockstep/cmd/internal/process"
	"github.com/lockstep-tls/lockstep/cmd/internal/version"
)

// ballast makes the garbage collector wait for 48 MiB more of garbage before it begins. It is
// never touched, so it takes no memory. An edge often holds little more than a few requests leave
// behind. Without ballast the collector would run all the time.
var ballast = make([]byte, 48<<20)

func main() {
	defer runtime.KeepAlive(ballast)
	if err := process.Protect(); err != nil {
		fmt.Fprintln(os.Stderr, "lockstep-edge:", err)
		os.Exit(1)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	if err := command().ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "lockstep-edge:", err)
		os.Exit(1)
	}
}

func command() *cobra.Command {
	cfg := edge.Default()
	file := os.Getenv("LOCKSTEP_EDGE_CONFIG")
	cmd := &cobra.Command{
		Use: "lockstep-edge --config edge.yaml",
		Short: "Terminates TLS with the fleet's certificates and session ticket keys, and forwards to " +
			"upstreams",
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		Version:       version.Get().String(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := cfg.Load(file, cmd.Flags(), os.Getenv); err != nil {
				return err
			}
			e, err := edge.New(cfg, slog.New(slog.NewJSONHandler(os.Stderr, nil)),
				slog.New(slog.NewJSONHandler(os.Stdout, nil)))
			if err != nil {
				return err
			}
			return e.Run(cmd.Context())
		},
	}
	cmd.Flags().StringVar(&file, "config", file, "YAML file (edge.yaml)")
	cfg.Flags(cmd.Flags())
	return cmd
}
