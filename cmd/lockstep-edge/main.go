// Lockstep-edge is the bundled proxy: it terminates TLS with certificates and session ticket keys of the control plane, and forwards to upstreams.
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
	"github.com/lockstep-tls/lockstep/cmd/internal/version"
)

// ballast is never touched, and so takes no memory: it makes the collector wait for so much more garbage before it begins. What an edge holds is often little more
// than what a few requests leave behind, and it would run all the time.
var ballast = make([]byte, 48<<20)

func main() {
	defer runtime.KeepAlive(ballast)
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
		Use:           "lockstep-edge --config edge.yaml",
		Short:         "Terminates TLS with the fleet's certificates and session ticket keys, and forwards to upstreams",
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		Version:       version.Get().String(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := cfg.Load(file, cmd.Flags(), os.Getenv); err != nil {
				return err
			}
			e, err := edge.New(cfg, slog.New(slog.NewJSONHandler(os.Stderr, nil)), slog.New(slog.NewJSONHandler(os.Stdout, nil)))
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
