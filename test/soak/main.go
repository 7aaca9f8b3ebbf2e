// The soak runs lockstepd for a long time at a rotation every 10 s with 10 nodes a second coming
// and going, and holds what it uses against what it may: the heap must not grow by more than 1 MB
// an hour after the warm-up, goroutines and file descriptors stay flat.
//
// With -faults it does random faults to two replicas and six real Envoys instead: programs that are
// killed or hang, connections that are cut, files that change, commands. After each one all must be
// well again, and every live ticket must resume. In the end it looks for everything that it did in
// `lockstep events`, and for what is told there and was not done.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/lockstep-tls/lockstep/test/fleet"
)

const (
	nodes   = 200
	churn   = 100 * time.Millisecond // one node goes and one comes
	period  = 10 * time.Second       // policy.s period and a lease
	sampled = 10 * time.Second

	maxSlope = 1.0 // MB an hour

	longestRest = 6 * time.Second // between two faults
)

// policy rotates every 10 s; a lease shorter than that, or a node that went would hold each
// rotation up.
const policy = `refresh: 1s
scopes:
  default:
    period: 8s # and a lease for those who went
    ticket_lifetime: 1m
    max_key_age: 10m
    node_lease: 2s
`

func main() {
	length := flag.Duration("for", time.Hour, "how long, the warm-up included")
	faulty := flag.Bool("faults", false, "do random faults, and look for each in the events")
	seed := flag.Uint64("seed", uint64(time.Now().UnixNano()), "of the random faults")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	do := run
	if *faulty {
		do = func(ctx context.Context, length time.Duration) error { return runWithFaults(ctx, length, *seed) }
	}
	if err := do(ctx, *length); err != nil {
		fmt.Fprintln(os.Stderr, "soak:", err)
		os.Exit(1)
	}
}

// runWithFaults sets the stage, and does faults to it.
func runWithFaults(ctx context.Context, length time.Duration, seed uint64) error {
	dir, err := os.MkdirTemp("", "lockstep-soak-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	f, err := fleet.New(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	bin, err := fleet.Build(ctx, "lockstepd", "lockstep")
	if err != nil {
		return err
	}
	s, err := newStage(ctx, f, bin, 6)
	defer s.close()
	if err != nil {
		return err
	}
	say := func(format string, args ...any) { fmt.Printf(format+"\n", args...) }
	return runFaults(ctx, s, length, longestRest, seed, say)
}

func run(ctx context.Context, length time.Duration) error {
	dir, err := os.MkdirTemp("", "lockstep-soak-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	f, err := fleet.New(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	bin, err := fleet.Build(ctx, "lockstepd")
	if err != nil {
		return err
	}
	config := filepath.Join(dir, "lockstep.yaml")
	if err := os.WriteFile(config, []byte(policy), 0o600); err != nil {
		return err
	}
	plane, err := f.Lockstepd("lockstepd", fleet.Lockstepd{Bin: bin, Args: []string{"--config", config}})
	if err != nil {
		return err
	}
	if err := plane.Ready(ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, length)
	defer cancel()
	swarm := newSwarm(plane.XDS)
	done := make(chan struct{})
	go func() { defer close(done); swarm.run(ctx) }()

	var samples []sample
	began := time.Now()
	for tick := time.NewTicker(sampled); ctx.Err() == nil; {
		select {
		case <-ctx.Done():
		case <-tick.C:
			s, err := look(ctx, plane)
			if ctx.Err() != nil {
				continue
			}
			if err != nil {
				return err
			}
			s.at = time.Since(began)
			samples = append(samples, s)
			if len(samples)%6 == 0 {
				fmt.Printf("%6s  heap %.2f MB  goroutines %.0f  descriptors %.0f  rotations %.0f  nodes come %d\n",
					s.at.Round(time.Second), s.heap/1e6, s.goroutines, s.descriptors, s.rotations, swarm.came.Load())
			}
		}
	}
	<-done
	return verdict(samples, length)
}
