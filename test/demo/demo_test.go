package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-tls/lockstep/test/fleet"
)

// TestDemo runs the program in both modes, as make demo and make demo-break do.
func TestDemo(t *testing.T) {
	// so that the time below is the demo's own
	bin, err := fleet.Build(t.Context(), "lockstepd", "lockstep", "lockstep-edge", "./test/demo")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name  string
		args  []string
		words []string
	}{
		{"rotates", nil, []string{
			"no live ticket was refused, no handshake failed, nothing was cut",
			"kill -9: lockstepd", "kill -9: edge-3", "over NATS, from process",
			"rotation 3 has ended", "the old keys have left the ring",
		}},
		{"breaks", []string{"-break"}, []string{"live tickets were refused, as an abrupt replacement must"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
			defer cancel()
			began := time.Now()
			cmd := exec.CommandContext(ctx, filepath.Join(bin, "demo"), c.args...)
			cmd.Dir, cmd.Env = filepath.Dir(bin), append(os.Environ(), "DEMO_KEEP=")
			// it ends what it started
			cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
			cmd.WaitDelay = 10 * time.Second
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Fatalf("%v:\n%s", err, out)
			}
			if took := time.Since(began); took > 90*time.Second {
				t.Errorf("it took %s", took)
			}
			for _, w := range c.words {
				if !strings.Contains(string(out), w) {
					t.Errorf("it did not say %q:\n%s", w, out)
				}
			}
		})
	}
}
