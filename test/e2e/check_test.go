package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// checks runs a program with --check and further arguments, and returns what it printed, and its
// exit code.
func (s *stage) checks(program string, args ...string) (out string, code int) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.ctx, 30*time.Second)
	defer cancel()
	args = append([]string{"--check"}, args...)
	b, err := exec.CommandContext(ctx, filepath.Join(bin, program), args...).CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		s.t.Fatal(err)
	}
	if exit != nil {
		code = exit.ExitCode()
	}
	return string(b), code
}

// TestACheckBesideARunningFleet: --check of both programs, beside the ones that run with the same
// configuration and data directories. It says what is wrong with a file that was edited, and
// disturbs nobody: every node stays connected, and lockstepd's log tells of nothing.
func TestACheckBesideARunningFleet(t *testing.T) {
	t.Parallel()
	s := newStage(t, setup{})
	e := s.edge("edge-1", "")
	s.ok(e.Ready(s.ctx))
	s.awaitPhase("steady", 1)
	config, edge := s.path("lockstep.yaml"), s.path("edge-1.yaml")
	flags := []string{"--config", config, "--data-dir", s.plane.Data, "--admin-listen", s.plane.Admin,
		"--xds-listen", s.plane.XDS, "--nats-listen", s.plane.NATS, "--certs", s.certs}
	lines := func() int {
		b, err := os.ReadFile(s.plane.LogFile())
		s.ok(err)
		return strings.Count(string(b), `"level":"WARN"`) + strings.Count(string(b), `"level":"ERROR"`)
	}
	before := lines()

	out, code := s.checks("lockstepd", flags...)
	if code != 0 || !strings.Contains(out, "which a lockstepd that runs has open") ||
		!strings.Contains(out, fmt.Sprintf("checked: %d certificates", len(s.hosts))) {
		t.Errorf("%d\n%s", code, out)
	}
	if out, code := s.checks("lockstep-edge", "--config", edge); code != 0 {
		t.Errorf("%d\n%s", code, out)
	}

	text, err := os.ReadFile(config)
	s.ok(err)
	s.ok(os.WriteFile(config, append(text, "nonsense: 1\n"...), 0o600))
	out, code = s.checks("lockstepd", flags...)
	at := fmt.Sprintf("refused: %s:%d: unknown key \"nonsense\"", config, strings.Count(string(text), "\n")+1)
	if code != 5 || !strings.Contains(out, at) || !strings.Contains(out, "a start would be refused: 1 problem") {
		t.Errorf("%d, want 5 and %q\n%s", code, at, out)
	}
	s.ok(os.WriteFile(config, text, 0o600))
	text, err = os.ReadFile(edge)
	s.ok(err)
	s.ok(os.WriteFile(edge, append(text, "log_level: loud\n"...), 0o600))
	if out, code := s.checks("lockstep-edge", "--config", edge); code != 5 || !strings.Contains(out, "log_level") {
		t.Errorf("%d\n%s", code, out)
	}

	s.awaitPhase("steady", 1)
	if after := lines(); after != before {
		t.Errorf("lockstepd has logged %d warnings and errors, and %d before", after, before)
	}
}
