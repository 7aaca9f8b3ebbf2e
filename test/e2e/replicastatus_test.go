package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-tls/lockstep/test/fleet"
)

// told is what status says of the replicas and their problems.
type told struct {
	Degraded []string
	Replicas []listed
	Problems []complaint
}

type listed struct {
	Replica, Version, State, Silent string
	Answers                         bool
	SkewSeconds                     *float64 `json:"skew_seconds"`
}

type complaint struct {
	Code, Severity, Where, Text string
	Since                       time.Time
	Replicas                    []string
	Acknowledged                *struct{ By string }
}

// problem waits until status at a replica has a problem of the code that matches, or has none.
func (r *replicated) problem(p *fleet.Lockstepd, code string, within time.Duration, want func(string) bool) (st told) {
	r.t.Helper()
	r.eventuallyWithin(within, func() error {
		st = told{}
		if err := r.at(p).show(&st, "status"); err != nil {
			return err
		}
		var found []string
		for _, one := range st.Problems {
			if one.Code == code {
				found = append(found, fmt.Sprintf("%s %v %s %s", one.Severity, one.Replicas, one.Where, one.Text))
			}
		}
		if all := strings.Join(found, "\n"); !want(all) {
			return fmt.Errorf("status of %s says of %s: %q, of all %+v", p.Name(), code, all, st)
		}
		return nil
	})
	return st
}

func none(text string) bool { return text == "" }

// state waits until a replica calls another one live, stopped or missing.
func (r *replicated) state(p *fleet.Lockstepd, of, want string) {
	r.t.Helper()
	r.eventually(func() error {
		var st told
		if err := r.at(p).show(&st, "status"); err != nil {
			return err
		}
		for _, one := range st.Replicas {
			if one.Replica == of && one.State == want {
				return nil
			}
		}
		return fmt.Errorf("%s is not %s: %+v", of, want, st.Replicas)
	})
}

// TestStatusNamesTheOtherReplicasAndWhatIsWrongThere: their versions, their problems, one that has
// stopped and one that was killed. What was acknowledged stays so over a restart.
func TestStatusNamesTheOtherReplicasAndWhatIsWrongThere(t *testing.T) {
	t.Parallel() // it mostly waits
	later := t.TempDir()
	build := exec.Command("go", "build", "-trimpath", "-ldflags",
		"-X github.com/lockstep-tls/lockstep/cmd/internal/version.version=v9.9.9", "-o", later+"/",
		"github.com/lockstep-tls/lockstep/cmd/lockstepd")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	url := ""
	r := replicas(t, 1, func(s *stage) string { return oneRedis(s, &url, nil) })
	certs := filepath.Join(t.TempDir(), "certs")
	r.ok(os.MkdirAll(filepath.Join(certs, "broken.example"), 0o755))
	r.ok(os.WriteFile(filepath.Join(certs, "broken.example", "tls.crt"), []byte("no PEM"), 0o600))
	r.ok(os.WriteFile(filepath.Join(certs, "broken.example", "tls.key"), []byte("no PEM"), 0o600))
	one := r.planes[0]
	two := r.joinIn(r.fleet, fleet.Lockstepd{Bin: later, Certs: certs}, "replica-2", url)
	id := r.id(two)

	// What is wrong at the other replica, and that it has another version.
	r.problem(one, "certificate-problem", time.Minute, func(s string) bool {
		return strings.Contains(s, "warning ["+id+"]")
	})
	st := r.problem(one, "mixed-versions", time.Minute, func(s string) bool {
		return strings.HasPrefix(s, "notice") && strings.Contains(s, "v9.9.9 ("+id+")")
	})
	if all := strings.Join(st.Degraded, "\n"); !strings.Contains(all, "at "+id) || strings.Contains(all, "v9.9.9") {
		t.Errorf("degraded: %s", all)
	}
	if !slices.ContainsFunc(st.Problems, func(p complaint) bool {
		return p.Code == "certificate-problem" && !p.Since.IsZero()
	}) {
		t.Errorf("since when it stands at the other replica is not known: %+v", st.Problems)
	}
	r.eventually(func() error {
		if n := r.at(one).metric(`lockstep_replicas{version="v9.9.9"}`); n != 1 {
			return fmt.Errorf("lockstep_replicas of the other version is %v", n)
		}
		return nil
	})
	r.eventually(func() error {
		st = told{}
		r.ok(r.at(one).show(&st, "status"))
		if !slices.ContainsFunc(st.Replicas, func(o listed) bool {
			return o.Replica == id && o.Answers && o.Version == "v9.9.9" && o.SkewSeconds != nil
		}) {
			return fmt.Errorf("the other replica is %+v", st.Replicas)
		}
		return nil
	})

	// Acknowledged there, it stays so over a restart, which is no reason to miss the replica.
	r.at(two).mustRun("status", "--ack", "certificate-problem", "--for", "1h")
	r.ok(two.Stop(30 * time.Second))
	r.state(one, id, "stopped")
	r.problem(one, "replica-missing", time.Minute, none)
	r.ok(two.Restart())
	r.ok(two.Ready(r.ctx))
	r.state(one, id, "live")
	st = r.problem(two, "certificate-problem", time.Minute, func(s string) bool { return s != "" })
	for _, p := range st.Problems {
		if p.Code == "certificate-problem" && p.Acknowledged == nil {
			t.Errorf("it was acknowledged before the restart: %+v", p)
		}
	}

	// Killed, it is missing.
	r.ok(two.Kill())
	r.problem(one, "replica-missing", 2*time.Minute, func(s string) bool {
		return strings.HasPrefix(s, "warning") && strings.Contains(s, "replica "+id+" (version v9.9.9)")
	})
	r.state(one, id, "missing")
	r.ask(one)
	if got := r.lockstep("status"); got.code != 3 || !strings.Contains(got.out, "missing") {
		t.Errorf("exit code %d: %s", got.code, got.out)
	}
	r.ok(two.Restart())
	r.ok(two.Ready(r.ctx))
	r.problem(one, "replica-missing", time.Minute, none)
	r.state(one, id, "live")
}
