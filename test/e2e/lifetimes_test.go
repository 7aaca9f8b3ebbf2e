package e2e

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/lockstep-tls/lockstep/test/fleet"
)

// sessionTimeout waits until an Envoy's own chain says for how long its tickets are good.
func (s *stage) sessionTimeout(e *envoy, want string) {
	s.t.Helper()
	s.eventually(func() error {
		dump := string(s.envoyAdmin(e, "/config_dump?resource=dynamic_listeners"))
		if !strings.Contains(dump, fmt.Sprintf("%q: %q", "session_timeout", want)) {
			_, after, _ := strings.Cut(dump, "session_timeout")
			return fmt.Errorf("%s has no session_timeout of %s: …%.40s", e.name, want, after)
		}
		return nil
	})
}

// drainsFor returns for how long the draining key decrypts, from when it began to drain.
func (s *stage) drainsFor() (d time.Duration) {
	s.t.Helper()
	s.eventually(func() error {
		var st struct {
			Scopes []struct {
				Keys []struct {
					Role     string
					RetireAt *time.Time `json:"retire_at"`
				}
			}
		}
		if err := s.show(&st, "status"); err != nil {
			return err
		}
		for _, k := range st.Scopes[0].Keys {
			if k.Role == "drain" && k.RetireAt != nil {
				d = time.Until(*k.RetireAt)
				return nil
			}
		}
		return fmt.Errorf("no key drains: %+v", st)
	})
	return d
}

// TestALongerTicketLifetimeReachesEnvoyOnceTheStoreHasIt: while the store hangs, a reload with a
// longer ticket_lifetime changes nothing at a real Envoy, and status says what it waits for. A
// restart with a shorter one keeps the keys of before for as long as their tickets are good.
func TestALongerTicketLifetimeReachesEnvoyOnceTheStoreHasIt(t *testing.T) {
	t.Parallel() // it mostly waits
	r := &replicated{stage: newStage(t, setup{hosts: 1, later: true, scopes: "  default: {ticket_lifetime: 1h}\n"})}
	r.moreTime(3 * time.Minute)
	var err error
	r.events, err = r.fleet.NATS(r.ctx, "events", 1)
	r.ok(err)
	var url string
	var redis *fleet.RedisServer
	oneRedis(r.stage, &url, &redis)
	addr := r.listen("  hosts: [host-1.example]\n")
	p := r.joinIn(r.fleet, fleet.Lockstepd{Certs: r.certs}, "replica-1", url)
	r.ask(p)
	e := r.hybrid("edge-1", addr)
	r.awaitReady()
	r.awaitPhase("steady", 1)
	r.sessionTimeout(e, "3600s")
	config := func(life string) {
		r.file("lockstep.yaml", fmt.Appendf(nil, "scopes:\n  default: {ticket_lifetime: %s}\nlisteners:\n"+
			"  template: %s\n  hosts: [host-1.example]\n", life, r.path("listener.yaml")))
	}

	r.ok(redis.Pause())
	config("4h")
	r.ok(p.Signal(syscall.SIGHUP))
	r.problem(p, "lifetime-waits", 30*time.Second, func(text string) bool {
		return strings.Contains(text, "tickets for 1h0m0s still, and not for 4h0m0s")
	})
	r.sessionTimeout(e, "3600s")
	r.ok(redis.Resume())
	r.sessionTimeout(e, "14400s")
	r.problem(p, "lifetime-waits", 30*time.Second, none)

	config("30m")
	r.ok(p.Stop(30 * time.Second))
	r.ok(p.Restart())
	r.ok(p.Ready(r.ctx))
	r.sessionTimeout(e, "1800s")
	r.awaitPhase("steady", 1)
	r.mustRun("rotate", "--wait", "--timeout", "30s")
	if d := r.drainsFor(); d < 4*time.Hour-time.Minute {
		t.Errorf("the key of before drains for %s, and made tickets for 4h", d)
	}
}

// TestReplicasWithDifferentTicketLifetimesGoByTheLongest, and both say so.
func TestReplicasWithDifferentTicketLifetimesGoByTheLongest(t *testing.T) {
	t.Parallel() // it mostly waits
	r := &replicated{stage: newStage(t, setup{hosts: 1, later: true, scopes: lasting("1h")})}
	r.moreTime(3 * time.Minute)
	var err error
	r.events, err = r.fleet.NATS(r.ctx, "events", 1)
	r.ok(err)
	var url string
	oneRedis(r.stage, &url, nil)
	one := r.joinIn(r.fleet, fleet.Lockstepd{Certs: r.certs}, "replica-1", url)
	r.file("lockstep.yaml", []byte("scopes:\n"+lasting("3h")))
	two := r.joinIn(r.fleet, fleet.Lockstepd{Certs: r.certs}, "replica-2", url)
	r.eagerAt(one.XDS, "edge-1", r.hosts)
	r.awaitReady()
	ids := map[*fleet.Lockstepd]string{one: r.id(one), two: r.id(two)}
	r.problem(one, "lifetimes-differ", 30*time.Second, func(text string) bool {
		return strings.Contains(text, "is 1h0m0s here, and 3h0m0s at replica "+ids[two])
	})
	r.problem(two, "lifetimes-differ", 30*time.Second, func(text string) bool {
		return strings.Contains(text, "is 3h0m0s here, and 1h0m0s at replica "+ids[one])
	})
	r.ask(one)
	for range 2 {
		r.mustRun("rotate", "--wait", "--timeout", "30s")
		if d := r.drainsFor(); d < 3*time.Hour-time.Minute {
			t.Errorf("the key drains for %s, and made tickets for 3h", d)
		}
	}
	r.ok(two.Stop(30 * time.Second))
	r.file("lockstep.yaml", []byte("scopes:\n"+lasting("1h")))
	r.ok(two.Restart())
	r.ok(two.Ready(r.ctx))
	r.problem(one, "lifetimes-differ", time.Minute, none)
	r.problem(two, "lifetimes-differ", time.Minute, none)
}

// lasting is a scope with a ticket_lifetime.
func lasting(life string) string {
	return fmt.Sprintf("  default: {ticket_lifetime: %s, node_lease: 5s}\n", life)
}
