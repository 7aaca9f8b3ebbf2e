package main

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/lockstep-tls/lockstep/test/fleet"
)

// lengthVariable names the environment variable with the time that the test goes on for.
const lengthVariable = "LOCKSTEP_SOAK"

// Everything that was done to two replicas and real Envoys is found again in what either replica
// tells, and nothing else. After each fault all is well, and no live ticket is refused. Without
// lengthVariable each fault has one turn, on three Envoys.
func TestWhatWasDoneIsFoundAgainInTheEvents(t *testing.T) {
	length, rest, envoys := time.Duration(0), time.Duration(0), 3
	if text := os.Getenv(lengthVariable); text != "" {
		var err error
		if length, err = time.ParseDuration(text); err != nil {
			t.Fatalf("%s: %v", lengthVariable, err)
		}
		rest, envoys = longestRest, 6
	}
	ctx, cancel := context.WithTimeout(t.Context(), length+25*time.Minute)
	defer cancel()
	bin, err := fleet.Build(ctx, "lockstepd", "lockstep")
	if err != nil {
		t.Fatal(err)
	}
	s, err := newStage(ctx, fleet.ForTest(t), bin, envoys)
	defer s.close()
	if err != nil {
		t.Fatal(err)
	}
	if err := runFaults(ctx, s, length, rest, uint64(time.Now().UnixNano()), t.Logf); err != nil {
		t.Fatal(err)
	}
}
