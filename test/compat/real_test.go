package main

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/lockstep-tls/lockstep/test/fleet"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestTheInstalledEnvoyCanDoAll runs the quick checks on the Envoy that the other tests use, so
// that the program works when it is needed.
func TestTheInstalledEnvoyCanDoAll(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	binary, err := fleet.EnvoyPath()
	if err != nil {
		t.Fatal(err)
	}
	bin, err := fleet.Build(ctx, "lockstepd", "lockstep")
	if err != nil {
		t.Fatal(err)
	}
	s, err := setUp(ctx, t.TempDir(), bin)
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	r := row{binary: binary}
	for name, try := range map[string]func(context.Context, *stage, *row) (cell, error){
		"on demand": tryOnDemand, "hybrid": tryHybrid, "false ACK": tryFalseACK,
	} {
		if c, err := try(ctx, s, &r); err != nil || !c.OK {
			t.Errorf("%s: %+v, %v", name, c, err)
		}
	}
}

// TestAnEnvoyThatCannotStartIsAFinding: its words go into the table, and the run goes on.
func TestAnEnvoyThatCannotStartIsAFinding(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	bin, err := fleet.Build(ctx, "lockstepd", "lockstep")
	if err != nil {
		t.Fatal(err)
	}
	s, err := setUp(ctx, t.TempDir(), bin)
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	broken := filepath.Join(s.dir, "broken")
	if err := os.WriteFile(broken,
		[]byte("#!/bin/sh\necho '[1][critical][main] [a.cc:1] it is too old' >&2\nexit 1\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if c, err := tryOnDemand(ctx, s, &row{binary: broken}); err != nil || c.OK || c.Why != "it is too old" {
		t.Errorf("%+v, %v", c, err)
	}
}
