package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestAReplicaFailsInTheOtherPhases: killed and stopped in those in which nobody holds the rotation
// up: when nothing is under way, while an old key drains, while a node joins, and while keys are
// burnt (TestTwoReplicasAreOne has distributing and promoting). In the end a node moves while a
// rotation waits for it.
func TestAReplicaFailsInTheOtherPhases(t *testing.T) {
	t.Parallel() // it mostly waits
	var url string
	r := replicas(t, 2, func(s *stage) string { return oneRedis(s, &url, nil) })
	r.edges(2)
	last := r.scripted("last", accept)
	one := r.holder("last") // is where the scripted node is, and stays
	other := r.planes[0]
	if other == one {
		other = r.planes[1]
	}
	r.ask(one)
	r.awaitPhase("steady", 3)
	a := r.clients()
	nodes := 3
	faults := []struct {
		name     string
		do, undo func()
	}{
		{"kill -9", func() { r.ok(other.Kill()) }, func() { r.ok(other.Restart()); r.ok(other.Ready(r.ctx)) }},
		{"SIGSTOP", func() { r.ok(other.Pause()) }, func() { r.ok(other.Resume()) }},
	}

	t.Run("steady", func(t *testing.T) {
		r, a := r.in(t), a.in(r.in(t).stage)
		for _, f := range faults {
			before := r.scope()
			f.do()
			r.serves(a, f.name, time.Second)
			f.undo()
			repaired := time.Now()
			r.same(before, f.name)
			r.awaitPhase("steady", nodes)
			t.Logf("%s: all accepted %s after the repair", f.name, time.Since(repaired).Round(10*time.Millisecond))
			r.instep(a, f.name, nodes, 5*time.Second)
		}
	})
	t.Run("an old key drains", func(t *testing.T) {
		r, a := r.in(t), a.in(r.in(t).stage)
		for _, f := range faults {
			r.mustRun("rotate", "--wait", "--timeout", "10s", "--why", "it drains")
			before := r.awaitPhase("steady", nodes)
			if before.key("drain") == "" {
				t.Fatalf("no key drains: %+v", before.Keys)
			}
			a.awaitKeyInUse()
			f.do()
			a.cross(f.name) // the old keys' tickets too
			time.Sleep(time.Second)
			a.cross(f.name + ", a second later")
			f.undo()
			r.awaitPhase("steady", nodes)
			r.same(before, f.name)
			r.instep(a, f.name, nodes, 5*time.Second)
		}
	})
	t.Run("a node joins", func(t *testing.T) {
		r, a := r.in(t), a.in(r.in(t).stage)
		for i, f := range faults {
			name := fmt.Sprintf("late-%d", i+1)
			if i == 1 { // it connects to both, and one does not answer
				f.do()
			}
			late := r.envoy(name, r.more()...)
			joins := func() error {
				if names := r.names(); !slices.Contains(names, name+" live") {
					return fmt.Errorf("%v, want %s", names, name)
				}
				return nil
			}
			if i == 0 {
				// between its start and its first ring, or a little later
				time.Sleep(100 * time.Millisecond)
				f.do()
			}
			r.serves(a, f.name, time.Second)
			f.undo()
			began := time.Now()
			r.eventually(joins)
			r.awaitReady(late)
			t.Logf("%s: it serves %s after the repair", f.name, time.Since(began).Round(10*time.Millisecond))
			nodes++
			r.awaitPhase("steady", nodes)
			r.instep(a, f.name, nodes, 5*time.Second)
			r.mustRun(append(r.verify(r.envoys...), "--sni", r.hosts[0])...)
		}
	})
	t.Run("a node that was let in and has not answered", func(t *testing.T) {
		// and is killed then: nobody but the node can tell that it is the same
		stays, r, a := r.at(one), r.in(t), a.in(r.in(t).stage)
		silent := r.at(other).scripted("moves", withhold)
		r.eventually(func() error {
			silent.mu.Lock()
			defer silent.mu.Unlock()
			if len(silent.waiting) == 0 {
				return errNotYet
			}
			return nil
		})
		r.ok(other.Kill())
		silent.stop()
		stays.scripted("moves", accept)
		nodes++
		r.awaitPhase("steady", nodes)
		r.ok(other.Restart())
		r.ok(other.Ready(r.ctx))
		r.instep(a, "it answered elsewhere", nodes, 5*time.Second)
		for _, l := range r.history() {
			if slices.ContainsFunc(l.WaitedFor, func(n string) bool { return strings.HasPrefix(n, "moves#") }) {
				t.Errorf("it was waited for where it is no more: %+v", l)
			}
		}
		if blocked := r.scope().BlockedBy; len(blocked) > 0 {
			t.Errorf("blocked by %v", blocked)
		}
	})
	t.Run("a burn", func(t *testing.T) {
		r := r.in(t)
		a := a
		for _, f := range faults {
			last.follow(on(leads, withhold))
			a.stop() // tickets of burnt keys are refused, as they must be; no handshake fails
			r.mustRun("burn", "--yes", "--why", f.name)
			before := r.awaitPhase("burning", nodes-1)
			a = r.clients() // with tickets that are all newer than the burn
			f.do()
			r.serves(a, f.name, time.Second)
			f.undo()
			r.same(before, f.name)
			last.follow(accept)
			r.awaitPhase("steady", nodes)
			r.instep(a, f.name, nodes, 5*time.Second)
			if got := r.happened(before.Rotation); !slices.Equal(got, []string{"burning", "burnt"}) {
				t.Errorf("in the burn happened %v", got)
			}
		}
	})
	t.Run("a node moves while a rotation waits for it", func(t *testing.T) {
		r := r.in(t)
		a := r.clients()
		r.ok(one.Kill()) // the Envoys go to the other one, and have a reason to come back
		r.ask(other)
		r.eventually(func() error {
			if at := r.finds("edge-1"); at != other {
				return fmt.Errorf("edge-1 is not at %s: %v", other.Name(), r.names())
			}
			return nil
		})
		r.ok(one.Restart())
		r.ok(one.Ready(r.ctx))
		r.ask(one)
		r.awaitPhase("steady", nodes)
		moves := r.envoys[0]
		a.downs(moves)
		r.ok(moves.Pause())
		r.mustRun("rotate", "--why", "one moves")
		r.awaitPhase("distributing", nodes-1)
		r.blockedBy("distributing", moves.name+": has not accepted")
		a.cross("a node hangs")
		r.ok(other.Kill())
		a.check("its replica was killed")
		time.Sleep(time.Second)
		if sc := r.scope(); sc.Phase != "distributing" {
			t.Errorf("without it, the rotation went on: %s", sc.Phase)
		}
		r.ok(moves.Resume())
		moved := time.Now()
		a.ups(moves)
		r.eventually(func() error {
			if sc := r.scope(); sc.Phase != "steady" {
				return fmt.Errorf("%s, blocked by %v", sc.Phase, sc.BlockedBy)
			}
			return nil
		})
		t.Logf("the rotation ended %s after the node went on, at another replica",
			time.Since(moved).Round(10*time.Millisecond))
		a.awaitKeyInUse()
		a.cross("it moved")
		r.ok(other.Restart())
		r.ok(other.Ready(r.ctx))
		r.instep(a, "it moved", nodes, 5*time.Second)
	})
	for _, l := range r.history() {
		if len(l.LeftBehind) > 0 {
			t.Errorf("left behind: %+v", l)
		}
	}
}

// same demands that a repair left the ring as it was, but for keys whose last ticket is over.
func (r *replicated) same(before scope, after string) {
	r.t.Helper()
	for _, p := range r.planes {
		s := r.at(p)
		s.eventually(func() error {
			now, err := s.scopeOf("default")
			switch {
			case err != nil:
				return err
			case now.Rotation != before.Rotation || now.key("encrypt") != before.key("encrypt") ||
				generation(now.Version) < generation(before.Version):
				return fmt.Errorf("after %s, %s: %s %s %s became %s %s %s",
					after, p.Name(), before.Phase, before.Version, strings.Join(before.ids(), " "), now.Phase,
					now.Version, strings.Join(now.ids(), " "))
			}
			return nil
		})
	}
}
