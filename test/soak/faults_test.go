package main

import (
	"context"
	"testing"
	"time"

	"github.com/lockstep-tls/lockstep/test/fleet"
)

// The short form of `make soak`: each fault once, on two replicas and real Envoys. Everything that
// was done is found again in what either replica tells.
func TestWhatWasDoneIsFoundAgainInTheEvents(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	bin, err := fleet.Build(ctx, "lockstepd", "lockstep")
	if err != nil {
		t.Fatal(err)
	}
	s, err := newStage(ctx, fleet.ForTest(t), bin, 3)
	defer s.close()
	if err != nil {
		t.Fatal(err)
	}
	if err := runFaults(ctx, s, 0, uint64(time.Now().UnixNano()), t.Logf); err != nil {
		t.Fatal(err)
	}
}
