package e2e

import (
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-tls/lockstep/test/fleet"
)

// TestAReplicaWhoseClockIsAnHourOff: it says so and serves, and leaves rotations to the other one.
func TestAReplicaWhoseClockIsAnHourOff(t *testing.T) {
	t.Parallel() // it mostly waits
	var url string
	r := replicas(t, 1, func(s *stage) string {
		redis, err := s.fleet.Redis(s.ctx, "store")
		s.ok(err)
		url = "redis://" + redis.Addr
		return url
	})
	root, err := fleet.Root()
	r.ok(err)
	tagged := r.path("failpoint")
	build := exec.CommandContext(r.ctx, "go", "build", "-tags", "failpoint", "-o", tagged+"/", "./cmd/lockstepd")
	build.Dir = root
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	right := r.planes[0]
	wrong := fleet.Lockstepd{Bin: tagged, NATS: "-", Data: r.path("wrong"),
		Args: []string{"--config", r.path("lockstep.yaml"), "--store", url,
			"--events", "nats://" + r.events.Addrs(), "--kek", r.path("sealing.key"), "--refresh", "1s"}}
	wrong.XDS, err = r.fleet.Socket()
	r.ok(err)
	wrong.Admin, err = fleet.Addr()
	r.ok(err)
	r.xds = append(r.xds, wrong.XDS)
	life := 0
	start := func(offset string) *fleet.Lockstepd {
		t.Helper()
		if wrong.Process != nil {
			r.ok(wrong.Kill())
		}
		life++
		wrong.Env = []string{"LOCKSTEP_CLOCK_OFFSET=" + offset}
		p, err := r.fleet.Lockstepd(fmt.Sprintf("wrong-%d", life), wrong)
		r.ok(err)
		r.ok(p.Ready(r.ctx))
		wrong = *p
		return p
	}
	p := start("1h")
	r.edges(2)
	last := r.at(p).scripted("last", accept) // one of its nodes for certain
	r.awaitPhase("steady", 3)
	a := r.clients()
	for _, offset := range []string{"1h", "-1h"} {
		what := "a clock " + offset + " off"
		if offset != "1h" {
			p = start(offset)
		}
		r.ask(p)
		r.awaitPhase("steady", 3)
		want := "this machine's clock is 1h0m0s off the store's"
		if said := r.complaints(p); !strings.Contains(said, want) {
			t.Errorf("%s: status says %q, want %q", what, said, want)
		}
		r.logged(p, want)
		skew, err := time.ParseDuration(fmt.Sprintf("%fs", -r.metric("lockstep_clock_skew_seconds")))
		r.ok(err)
		if off, _ := time.ParseDuration(offset); (skew - off).Abs() > 5*time.Second {
			t.Errorf("%s: the metric says %s", what, skew)
		}
		r.mustFail(5, want, "rotate", "--why", what)
		r.mustFail(5, want, "burn", "--yes", "--why", what)
		a.check(what)
		r.ask(right)
		r.instep(a, what, 3, 5*time.Second)
		for _, phase := range []struct {
			name string
			on   script
		}{{"distributing", on(grows, withhold)}, {"promoting", on(leads, withhold)}} {
			// its node is waited for, whose word it passes on
			last.follow(phase.on)
			r.mustRun("rotate", "--why", what)
			r.awaitPhase(phase.name, 2)
			a.cross(what + ", " + phase.name)
			last.follow(accept)
			r.awaitPhase("steady", 3)
		}
		a.awaitKeyInUse()
		a.cross(what)
	}
	p = start("0s")
	r.ask(p)
	r.eventually(func() error {
		if said := r.complaints(p); said != "" {
			return fmt.Errorf("it still complains: %s", said)
		}
		return nil
	})
	r.instep(a, "the clock was set", 3, 5*time.Second)
	for _, l := range r.history() {
		if len(l.LeftBehind) > 0 {
			t.Errorf("left behind: %+v", l)
		}
	}
}

// at is the stage with another replica to ask and to connect to.
func (r *replicated) at(p *fleet.Lockstepd) *stage {
	s := *r.stage
	s.plane = p
	return &s
}
