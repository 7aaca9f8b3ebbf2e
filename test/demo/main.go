// The demo runs Lockstep's main job on real Envoys and the bundled proxy: three of the one and two
// of the other, 20 hosts, clients that carry their TLS sessions from node to node, and three
// rotations of the session ticket keys under that traffic, with a kill -9 of the control plane and
// of one Envoy on the way. It prints what happened and exits with 0 only if nobody was turned away.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	breaks := flag.Bool("break", false, "replace the keys abruptly instead, and show what that costs")
	request := flag.String("nats-request", "",
		"used by the demo itself, as another process: request `scope`'s rotation from $NATS_URL, and end")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()

	var err error
	if *request != "" {
		err = requestRotation(*request, os.Getenv("NATS_URL"))
	} else {
		err = run(ctx, *breaks)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, breaks bool) error {
	keep := os.Getenv("DEMO_KEEP") != ""
	begin := time.Now()
	s, err := setUp(ctx)
	if err != nil {
		return err
	}
	defer s.close()
	s.say("three Envoys and two of lockstep-edge serve %d hosts with one ring; %s after the start",
		hosts, time.Since(begin).Round(time.Millisecond))

	story := s.rotateUnderTraffic
	if breaks {
		story = s.breakUnderTraffic
	}
	err = story(ctx)
	s.stopTraffic()
	s.table(breaks)
	if err == nil {
		err = s.verdict(breaks)
	}
	s.say("ended %s after the start", time.Since(begin).Round(time.Second))
	if keep && ctx.Err() == nil {
		s.next()
		<-ctx.Done()
	}
	return err
}
