package e2e

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// reloads writes a configuration, and has lockstepd read it.
func (s *stage) reloads(config string) {
	s.t.Helper()
	s.file("lockstep.yaml", []byte(config))
	s.ok(s.plane.Signal(syscall.SIGHUP))
}

// degraded waits until status has a line with these words, or with none of them has no line about
// the configuration.
func (s *stage) degraded(words ...string) {
	s.t.Helper()
	s.eventually(func() error {
		var st status
		if err := s.show(&st, "status"); err != nil {
			return err
		}
		about := slices.DeleteFunc(st.Degraded, func(line string) bool {
			return !strings.Contains(line, "lockstep.yaml") && !strings.Contains(line, "configuration")
		})
		if len(words) == 0 && len(about) > 0 {
			return fmt.Errorf("degraded: %q", about)
		}
		for _, w := range words {
			if !strings.Contains(strings.Join(about, "\n"), w) {
				return fmt.Errorf("no %q in %q", w, about)
			}
		}
		return nil
	})
}

// TestAReloadUnderLiveTraffic: the policy of a scope and the listener change while lockstepd and
// real Envoys run, again and again during rotations. No live ticket is refused. What cannot change
// is named, and a file that cannot be used changes nothing.
func TestAReloadUnderLiveTraffic(t *testing.T) {
	t.Parallel()
	s := newStage(t, setup{later: true, scopes: fmt.Sprintf("  default: {ticket_lifetime: %s}\n", lifetime)})
	addr := s.listen("  hosts: [host-1.example]\n")
	s.start()
	e := s.hybrid("edge-1", addr)
	s.envoy("edge-2")
	s.awaitReady()
	s.awaitPhase("steady", 2)
	pid := s.plane.PID()
	second := s.hosts[1]
	s.hosts = s.hosts[:1]
	a := s.clients()

	template, err := os.ReadFile(s.path("listener.yaml"))
	s.ok(err)
	s.file("other.yaml", template)
	config := func(period, life string, more string) string {
		return fmt.Sprintf("scopes:\n  default: {ticket_lifetime: %s, period: %s, max_key_age: 1h}\nlisteners:\n"+
			"  template: %s\n  hosts: [host-1.example, %s]\n%s", life, period, s.path("other.yaml"), second, more)
	}
	s.reloads(config("3s", "20s", "node_names: 500\nrefresh: 1s\n"))
	s.listed(second, "eager", 1)
	if chains := s.chainsOf(e); !slices.Contains(chains, second) {
		t.Errorf("the Envoy has the chains %q", chains)
	}
	s.eventually(func() error { // the period, which was an hour, is over
		if sc := s.scope(); sc.Rotation < 2 {
			return fmt.Errorf("rotation %d", sc.Rotation)
		}
		return nil
	})
	changed := logged(s.plane.LogFile(), "a setting has changed", "key")
	for _, key := range []string{"scopes.default.period", "listeners.template", "listeners.hosts", "node_names"} {
		if !slices.Contains(changed, key) {
			t.Errorf("the log says that %q have changed, and not %s", changed, key)
		}
	}
	const never = "a setting cannot change while lockstepd runs: restart it"
	if keys := logged(s.plane.LogFile(), never, "key"); !slices.Equal(keys, []string{"refresh"}) {
		t.Errorf("the log says that %q cannot change", keys)
	}
	s.degraded("only a restart of lockstepd takes it over: refresh (in force 5s, in the file 1s)")
	a.check("a reload")

	// signals during rotations, of which one begins every few seconds
	first := s.scope()
	for i := 0; ; i++ {
		s.reloads(config([]string{"3s", "4s"}[i%2], []string{"30s", "20s"}[i/2%2], ""))
		a.check(fmt.Sprintf("reload %d", i))
		if sc := s.scope(); sc.Rotation >= first.Rotation+2 && i >= 8 {
			break
		}
	}

	s.file("lockstep.yaml", []byte(config("3s", "40s", "")))
	s.degraded("and was not reloaded", "scopes.default.ticket_lifetime")
	bad := config("3s", "40s", "nonsense: 1\n")
	s.reloads(bad)
	line := fmt.Sprintf("lockstep.yaml:%d: unknown key \"nonsense\"", strings.Count(bad, "\n"))
	s.degraded("cannot be used", line)
	s.eventually(func() error {
		const refused = "the configuration was not reloaded; the one that was read before stays in force"
		if !strings.Contains(strings.Join(logged(s.plane.LogFile(), refused, "err"), "\n"), line) {
			return errNotYet
		}
		return nil
	})
	// what a start would refuse is refused, although only a restart would take it over
	s.reloads(config("3s", "40s", "policy: /no-such/policy.yaml\n"))
	s.degraded("cannot be used", "lockstep.yaml:6: policy: open /no-such/policy.yaml: no such file or directory")
	s.reloads(config("1h", "20s", ""))
	s.degraded()
	s.awaitPhase("steady", 2)
	a.check("the end")
	if s.plane.PID() != pid {
		t.Error("lockstepd was started again")
	}
}
