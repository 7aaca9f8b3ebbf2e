package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/lockstep-tls/lockstep/test/bench/visit"
	"github.com/lockstep-tls/lockstep/test/fleet"
)

// profile writes to file a CPU profile of a lockstep-edge under handshakes, full and resumed, and requests: what the compiler optimizes it for.
func profile(ctx context.Context, b *bench, file string) error {
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-tags", "profile", "-pgo", "off", "-o", b.bin+string(filepath.Separator), "./cmd/lockstep-edge")
	build.Dir, build.Env = b.root, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("go build -tags profile: %w\n%s", err, out)
	}
	raw := filepath.Join(b.fleet.Dir(), "edge.pprof")
	if err := os.Setenv("LOCKSTEP_EDGE_PROFILE", raw); err != nil {
		return err
	}
	data, err := b.data(ctx, 1)
	if err != nil {
		return err
	}
	s, err := b.stand(ctx, data)
	if err != nil {
		return err
	}
	defer s.clients.close()
	edge, err := s.edge(ctx, "")
	if err != nil {
		return err
	}
	commands := []visit.Command{
		{Op: "shake", Count: 60_000, Parallel: 8},
		{Op: "shake", Count: 60_000, Parallel: 8, Resume: true},
		{Op: "hold", Count: 64, Parallel: 8},
		{Op: "request", Time: 15 * time.Second},
	}
	if err := edge.Signal(syscall.SIGUSR1); err != nil {
		return err
	}
	for _, c := range commands {
		c.Addr, c.Pattern = edge.addr, oneHost
		b.say("profile: %s", c.Op)
		if _, err := s.clients.do(c); err != nil {
			return fmt.Errorf("%s: %w", c.Op, err)
		}
	}
	if err := edge.Signal(syscall.SIGUSR1); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := fleet.Until(ctx, func() error { _, err := os.Stat(raw); return err }); err != nil {
		return fmt.Errorf("the profile is not written: %w", err)
	}
	out, err := exec.CommandContext(ctx, "go", "tool", "pprof", "-proto", "-output", file, raw).CombinedOutput()
	if err != nil {
		return fmt.Errorf("go tool pprof: %w\n%s", err, out)
	}
	return nil
}
