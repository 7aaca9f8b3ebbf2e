package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// said is what a run of the CLI left.
type said struct {
	code     int
	out, err string
}

// lockstep runs the CLI as an operator does, on the machine of the control plane and with its data
// directory.
func (s *stage) lockstep(args ...string) said {
	s.t.Helper()
	path, args := s.plane.Box.Enter(filepath.Join(bin, "lockstep"),
		slices.Concat([]string{"--data-dir", s.plane.Data}, s.tls, args)...)
	cmd := exec.CommandContext(s.ctx, path, args...)
	var errs strings.Builder
	cmd.Stderr = &errs
	out, err := cmd.Output()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		s.t.Fatal(err)
	}
	return said{cmd.ProcessState.ExitCode(), string(out), errs.String()}
}

// mustRun runs the CLI and wants exit code 0.
func (s *stage) mustRun(args ...string) string {
	s.t.Helper()
	r := s.lockstep(args...)
	for s.mayAskAgain(r) {
		r = s.lockstep(args...)
	}
	if r.code != 0 {
		s.t.Fatalf("lockstep %v: exit code %d: %s%s", args, r.code, r.out, r.err)
	}
	return r.out
}

var askAgain = regexp.MustCompile(`the room that is left is for others; ask again in (\w+)`)

// mayAskAgain reports whether a rotation was refused since one requester had asked for many. It
// waits as long as the refusal says, unless that is longer than a test of short tickets takes.
func (s *stage) mayAskAgain(r said) bool {
	m := askAgain.FindStringSubmatch(r.err)
	if m == nil {
		return false
	}
	d, err := time.ParseDuration(m[1])
	if err != nil || d > time.Minute {
		return false
	}
	select {
	case <-s.ctx.Done():
		return false
	case <-time.After(d + time.Second): // the words have whole seconds
		return true
	}
}

// mustFail runs the CLI and wants that exit code, and the words on standard error.
func (s *stage) mustFail(code int, words string, args ...string) {
	s.t.Helper()
	if r := s.lockstep(args...); r.code != code || !strings.Contains(r.err, words) {
		s.t.Errorf("lockstep %v: exit code %d, want %d; said %q, want %q in it", args, r.code, code, r.err, words)
	}
}

// The JSON of the CLI, as far as the tests read it.
type (
	status struct {
		Scopes       []scope
		Streams      int
		Degraded     []string
		Certificates struct {
			Directory               int
			Held, Problems, Clashes []string
		}
	}
	scope struct {
		Scope, Phase, Version string
		Rotation              uint64
		Keys                  []struct{ ID, Role string }
		Nodes                 struct{ Live, Accepted, Refused, Stale, Away, Excluded int }
		BlockedBy             []string `json:"blocked_by"`
		Requests              struct {
			Left int
			By   []struct {
				Name       string
				Keys, Left int
			}
		}
	}
	node struct {
		Node, Identity, State string
		Secrets               []struct{ Name, Version, State, Refused string }
	}
	line struct {
		What       string
		Rotation   uint64
		Key, By    string
		Why        string
		At         time.Time
		WaitedFor  []string `json:"waited_for"`
		LeftBehind []string `json:"left_behind"`
	}
)

// show runs a command with -o json. Exit code 3, degraded, comes with data too.
func (s *stage) show(v any, args ...string) error {
	r := s.lockstep(append([]string{"-o", "json"}, args...)...)
	if r.code != 0 && r.code != 3 {
		return fmt.Errorf("lockstep %v: exit code %d: %s", args, r.code, r.err)
	}
	if err := json.Unmarshal([]byte(r.out), v); err != nil {
		return fmt.Errorf("lockstep %v: %w: %s", args, err, r.out)
	}
	return nil
}

// scopeOf reads the status of a scope.
func (s *stage) scopeOf(name string) (scope, error) {
	var st status
	if err := s.show(&st, "status"); err != nil {
		return scope{}, err
	}
	for _, sc := range st.Scopes {
		if sc.Scope == name {
			return sc, nil
		}
	}
	return scope{}, fmt.Errorf("status has no scope %q", name)
}

// scope reads the status of the scope default, which must succeed.
func (s *stage) scope() scope {
	s.t.Helper()
	sc, err := s.scopeOf("default")
	s.ok(err)
	return sc
}

func (sc scope) key(role string) string {
	for _, k := range sc.Keys {
		if k.Role == role {
			return k.ID
		}
	}
	return ""
}

func (sc scope) ids() (ids []string) {
	for _, k := range sc.Keys {
		ids = append(ids, k.ID)
	}
	return ids
}

// awaitPhase waits until the scope default is in a phase and n nodes have accepted its ring.
func (s *stage) awaitPhase(phase string, accepted int) scope {
	s.t.Helper()
	var sc scope
	s.eventually(func() (err error) {
		if sc, err = s.scopeOf("default"); err != nil {
			return err
		}
		if sc.Phase != phase || sc.Nodes.Accepted != accepted {
			return fmt.Errorf("%s, want %s; %+v, want %d accepted; blocked by %v",
				sc.Phase, phase, sc.Nodes, accepted, sc.BlockedBy)
		}
		return nil
	})
	return sc
}

func (s *stage) nodes(args ...string) []node {
	s.t.Helper()
	var n struct{ Nodes []node }
	s.ok(s.show(&n, append([]string{"nodes"}, args...)...))
	return n.Nodes
}

// names lists the nodes with their states, "edge-1 live".
func (s *stage) names() (names []string) {
	s.t.Helper()
	for _, n := range s.nodes() {
		names = append(names, n.Node+" "+n.State)
	}
	return names
}

func (s *stage) history() []line {
	s.t.Helper()
	var h struct{ Lines []line }
	s.ok(s.show(&h, "history"))
	return h.Lines
}

// happened lists what was done in a rotation, in order.
func (s *stage) happened(rotation uint64) (what []string) {
	s.t.Helper()
	for _, l := range s.history() {
		if l.Rotation == rotation {
			what = append(what, l.What)
		}
	}
	return what
}
