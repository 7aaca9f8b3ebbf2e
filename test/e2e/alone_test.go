package e2e

import (
	"context"
	"errors"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestReplicasWithEmbeddedEventsAreRefused: of two lockstepd on one store whose events do not reach
// each other the second ends, says why and what to set, and the first serves on.
func TestReplicasWithEmbeddedEventsAreRefused(t *testing.T) {
	s := newStage(t, setup{later: true})
	redis, err := s.fleet.Redis(s.ctx, "store")
	s.ok(err)
	events, err := s.fleet.NATS(s.ctx, "events", 1)
	s.ok(err)
	shared := []string{"--store", "redis://" + redis.Addr, "--kek", s.path("sealing.key"), "--refresh", "1s"}
	bus := []string{"--events", "nats://" + events.Addrs()}
	second := func(name, whose string, args ...string) {
		t.Helper()
		own, err := s.fleet.Socket()
		s.ok(err)
		args = append(append([]string{"--config", s.path("lockstep.yaml"), "--data-dir", s.path(name),
			"--xds-listen", own, "--admin-listen", "127.0.0.1:0"}, shared...), args...)
		ctx, cancel := context.WithTimeout(s.ctx, 30*time.Second)
		defer cancel()
		began := time.Now()
		out, err := exec.CommandContext(ctx, filepath.Join(bin, "lockstepd"), args...).CombinedOutput()
		took := time.Since(began)
		t.Logf("%s ended after %s", name, took.Round(10*time.Millisecond))
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != 1 || took > 15*time.Second {
			t.Errorf("%s: %v after %s, want exit code 1 within seconds\n%s", name, err, took, out)
		}
		lines := strings.Split(strings.TrimSpace(string(out)), "\n")
		for _, want := range []string{
			"cannot work beside another replica", whose, "http://" + s.plane.Admin, "--events nats://",
		} {
			if last := lines[len(lines)-1]; !strings.Contains(last, want) {
				t.Errorf("%s: the last line has no %q: %s", name, want, last)
			}
		}
	}

	s.plane.NATS = "-"
	s.plane.Args = append(s.plane.Args, shared...)
	s.start()
	second("both embedded", "replica's events are embedded")
	second("the first embedded", "that replica's events are embedded", bus...)
	s.ok(s.plane.Ready(s.ctx))
	s.mustRun("rotate", "--wait", "--timeout", "10s")
	select {
	case <-s.plane.Done():
		t.Error("the first one ended")
	default:
	}

	s.ok(s.plane.Stop(10 * time.Second))
	s.plane.Args = append(s.plane.Args, bus...)
	s.start()
	second("the second embedded", "this replica's events are embedded")
	s.mustRun("rotate", "--wait", "--timeout", "10s")
}
