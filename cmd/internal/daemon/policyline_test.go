package daemon

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-tls/lockstep/cmd/internal/api"
	"github.com/lockstep-tls/lockstep/cmd/internal/config"
	"github.com/lockstep-tls/lockstep/internal/testkit"
	"github.com/lockstep-tls/lockstep/store"
)

// again stops a daemon and starts it with the same configuration, once change was called.
func again(t *testing.T, r *running, change func()) *running {
	t.Helper()
	cfg := r.cfg
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change()
	}
	return start(t, func(c *config.Config) { *c = cfg }) // waits until it is ready
}

func lastLine(text []byte) string {
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return lines[len(lines)-1]
}

// A log that was damaged refuses changes, not a restart with the policy that counted before; once
// it is mended, everything goes on, and the break is named.
func TestADamagedLogLetsNodesInAfterARestartAndIsMended(t *testing.T) {
	for name, policy := range map[string]string{"a policy": wide, "none": ""} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "policy.yaml")
			r := start(t, func(c *config.Config) {
				if policy != "" {
					if err := os.WriteFile(file, []byte(policy), 0o600); err != nil {
						t.Fatal(err)
					}
					c.Policy = file
				}
			})
			shop := newShop(t)
			for i := range 3 { // lines behind that on the policy
				name := fmt.Sprintf("shop-%d.example", i)
				if _, err := r.client.ImportCerts(t.Context(), tarOf(t, shop.pair(name, 0, name))); err != nil {
					t.Fatal(err)
				}
			}
			breakLog(t, r)
			r = again(t, r, nil)
			if _, err := r.client.Rotate(t.Context(), "default", api.RotateRequest{}); err == nil ||
				!strings.Contains(err.Error(), "lockstep audit mend") {
				t.Errorf("rotate: %v, want the way out", err)
			}
			if m, err := r.client.MendAudit(t.Context(), api.MendRequest{By: "alice"}); err != nil ||
				!strings.Contains(m.Head, "@store:") {
				t.Fatalf("%+v %v", m, err)
			}
			var answer *api.Error
			if _, err := r.client.MendAudit(t.Context(), api.MendRequest{By: "alice"}); !errors.As(err, &answer) ||
				answer.Code != api.Refused {
				t.Errorf("again: %v", err)
			}
			if _, err := r.client.Rotate(t.Context(), "default", api.RotateRequest{}); err != nil {
				t.Fatal(err)
			}
			found, err := r.client.VerifyAudit(t.Context())
			if err != nil || len(found.Reports[0].Problems) == 0 {
				t.Errorf("%+v %v: the break is not named", found, err)
			}
			log, err := r.client.Audit(t.Context(), 100)
			if err != nil || !slices.ContainsFunc(log.Lines, func(l api.AuditLine) bool {
				return l.What == "audit-broken" && strings.Contains(l.Actor, "alice")
			}) {
				t.Errorf("%+v %v", log, err)
			}
			again(t, r, nil)
		})
	}
}

// A replica whose line is out of reach, or that has none, is let in by a frozen store, and the line
// is written after the thaw; a policy that is known to be another one is not.
func TestAFrozenStoreLetsNodesIn(t *testing.T) {
	g := startGuarded(t, wide)
	data, mark := g.cfg.DataDir, filepath.Join(g.cfg.DataDir, policyMark)
	freeze := func() {
		t.Helper()
		if err := g.client.Freeze(t.Context(), api.FreezeRequest{By: "me", Why: "it moves"}); err != nil {
			t.Fatal(err)
		}
	}
	status := func() string {
		st, err := g.client.Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return strings.Join(st.Degraded, "\n")
	}
	freeze()
	g.running = again(t, g.running, func() { // another replica
		if err := errors.Join(os.Remove(mark),
			os.WriteFile(filepath.Join(data, "replica"), []byte("other\n"), 0o600)); err != nil {
			t.Fatal(err)
		}
	})
	join(t, "unix:"+g.socket, "edge-1", "a.example").gets("+a.example")
	testkit.Until(t, func() error {
		if s := status(); !strings.Contains(s, "does not say yet which policy") ||
			strings.Contains(s, "no node is let in") {
			return fmt.Errorf("degraded: %s", s)
		}
		return nil
	})
	if keys, _ := policyLinesOf(t, g.running); len(keys) != 1 {
		t.Errorf("lines on the policy in a frozen store: %q", keys)
	}
	if _, err := g.client.Thaw(t.Context()); err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf("%x",
		sha256.Sum256([]byte(strings.ReplaceAll(wide, "ME", fmt.Sprintf("unix:uid=%d", os.Getuid())))))
	testkit.Until(t, func() error {
		if keys, _ := policyLinesOf(t, g.running); !slices.Equal(keys, []string{want, want}) {
			return fmt.Errorf("%q", keys)
		}
		if s := status(); strings.Contains(s, "which policy") {
			return errors.New(s)
		}
		return nil
	})
	if b, err := os.ReadFile(mark); err != nil || !strings.HasPrefix(lastLine(b), want+" ") {
		t.Errorf("the policies that counted: %q %v", b, err)
	}
	freeze()
	g.running = again(t, g.running, nil) // as it was

	for name, forget := range map[string]func() error{
		"by the data directory": func() error { return nil }, "by the log": func() error { return os.Remove(mark) },
	} {
		if err := g.stop(); err != nil {
			t.Fatal(err)
		}
		g.write(t, `rules: [{identity: "ME", names: [b.example]}]`)
		if err := forget(); err != nil {
			t.Fatal(err)
		}
		d, err := New(g.cfg, g.log)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- d.policy.Run(ctx) }()
		testkit.Until(t, func() error {
			if err := d.policy.Unsettled(); !errors.Is(err, store.ErrFrozen) {
				return fmt.Errorf("another policy, known %s: %v", name, err)
			}
			return nil
		})
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		d.Close()
	}
}

// A policy that was in force before and was replaced is named when it comes back: in the log, by
// status and by the metrics, also after a restart, for a day.
func TestAPolicyThatIsPutBackIsNamed(t *testing.T) {
	g := startGuarded(t, wide)
	const backLine, other = "It was put back", `rules: [{identity: "ME", scopes: [default], names: [b.example]}]`
	status := func() string {
		t.Helper()
		st, err := g.client.Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return strings.Join(st.Degraded, "\n")
	}
	lines := func(n int) (last string) {
		t.Helper()
		testkit.Until(t, func() error {
			_, why := policyLinesOf(t, g.running)
			if len(why) != n {
				return fmt.Errorf("%q, want %d lines", why, n)
			}
			last = why[n-1]
			return nil
		})
		return last
	}
	expect := func(back bool, last string) {
		t.Helper()
		if strings.Contains(last, backLine) != back {
			t.Errorf("the line says %q, put back: %t", last, back)
		}
		testkit.Until(t, func() error {
			if s := status(); strings.Contains(s, "put back") != back {
				return fmt.Errorf("status says %q, put back: %t", s, back)
			}
			metric := "lockstep_policy_put_back 0"
			if back {
				metric = "lockstep_policy_put_back 1"
			}
			return g.metric(t, metric)
		})
	}
	expect(false, lines(1))
	g.write(t, other)
	expect(false, lines(2))
	g.write(t, wide) // while it runs
	expect(true, lines(3))
	g.running = again(t, g.running, nil)
	expect(true, lines(3))
	g.write(t, other+" # meant")
	expect(false, lines(4))
	g.running = again(t, g.running, func() { g.write(t, other) }) // while it does not
	expect(true, lines(5))

	mark := filepath.Join(g.cfg.DataDir, policyMark)
	b, err := os.ReadFile(mark)
	if err != nil {
		t.Fatal(err)
	}
	marks := strings.Split(strings.TrimSpace(string(b)), "\n")
	digest, _, _ := strings.Cut(marks[len(marks)-1], " ")
	marks[len(marks)-1] = digest + " " + time.Now().Add(-24*time.Hour-time.Second).UTC().Format(time.RFC3339)
	if err := os.WriteFile(mark, []byte(strings.Join(marks, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if s := status(); strings.Contains(s, "put back") {
		t.Errorf("a day later: %s", s)
	}
}
