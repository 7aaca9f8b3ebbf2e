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

	"github.com/nats-io/nats.go"

	"github.com/lockstep-tls/lockstep/test/fleet"
)

// recorded is `lockstep events -o json`.
type recorded struct {
	Zone             string
	Replicas, Silent []string
	Events           []event
}

type event struct {
	At                                     time.Time
	Kind, Node, Name, Text, Replica, Phase string
	Version                                string
}

// recorded asks the replica that the CLI asks.
func (s *stage) recorded(flags ...string) recorded {
	s.t.Helper()
	var out recorded
	s.ok(s.show(&out, append([]string{"events"}, flags...)...))
	return out
}

// findsEvent waits until an event is there that matches.
func (s *stage) findsEvent(what string, match func(event) bool, flags ...string) (found event) {
	s.t.Helper()
	s.eventually(func() error {
		all := s.recorded(flags...)
		i := slices.IndexFunc(all.Events, match)
		if i < 0 {
			return fmt.Errorf("lockstep events does not tell that %s: %+v", what, all)
		}
		found = all.Events[i]
		return nil
	})
	return found
}

// TestWhatHappenedIsFoundAgain: each replica writes down what happened at it, also over kill -9.
// Either of them tells all of it, in the order of time, and names one that it could not ask.
func TestWhatHappenedIsFoundAgain(t *testing.T) {
	t.Parallel() // it mostly waits
	r := replicas(t, 2, func(s *stage) string {
		redis, err := s.fleet.Redis(s.ctx, "redis")
		s.ok(err)
		return "redis://" + redis.Addr
	}, "--expected-nodes", "edge-1,never")
	began := time.Now()
	r.edges(2)
	r.awaitPhase("steady", 2)
	for _, p := range r.planes {
		r.ask(p)
		for _, node := range []string{"edge-1", "edge-2"} {
			r.findsEvent(node+" has connected", func(e event) bool {
				return e.Kind == "node-connected" && e.Node == node && !e.At.Before(began.Truncate(time.Second))
			}, "--node", node)
		}
		got := r.recorded()
		for end := time.Now().Add(30 * time.Second); len(got.Silent) > 0 && time.Now().Before(end); {
			got = r.recorded() // on a busy machine a replica may not answer in time
		}
		if len(got.Replicas) != 2 || len(got.Silent) != 0 || got.Zone == "" {
			t.Errorf("%s answers for %v, silent %v, zone %q", p.Name(), got.Replicas, got.Silent, got.Zone)
		}
		if !slices.IsSortedFunc(got.Events, func(a, b event) int { return a.At.Compare(b.At) }) {
			t.Errorf("the events are not in order: %+v", got.Events)
		}
	}

	r.mustRun("rotate", "--wait", "--timeout", "20s", "--why", "for the record")
	r.findsEvent("a rotation was done", func(e event) bool {
		return e.Kind == "rotation" && e.Phase == "done" && e.Name == "tickets/default"
	}, "--kind", "rotation")
	for _, e := range r.recorded("--kind", "rotation").Events {
		if e.Kind != "rotation" {
			t.Errorf("--kind rotation shows %+v", e)
		}
	}

	// One replica is killed: the nodes come to the other one.
	killed := time.Now()
	one := r.holder("edge-1")
	other := r.planes[0]
	if other == one {
		other = r.planes[1]
	}
	r.ok(one.Kill())
	r.ask(other)
	if got := r.recorded(); len(got.Silent) != 1 || len(got.Replicas) != 1 {
		t.Errorf("one replica was killed, and events says: silent %v, answered %v", got.Silent, got.Replicas)
	}
	r.ok(one.Restart())
	r.ok(one.Ready(r.ctx))
	again := r.id(one)
	r.findsEvent("edge-1 had come to the replica that was killed", func(e event) bool {
		return e.Kind == "node-connected" && e.Node == "edge-1" && e.At.Before(killed) && e.Replica == again
	}, "--until", killed.Format(time.RFC3339Nano))

	// What happens goes to those who watch, and to NATS.
	conn, err := nats.Connect("nats://" + r.events.Addrs())
	r.ok(err)
	defer conn.Close()
	heard, err := conn.SubscribeSync("lockstep.events.node-away.>")
	r.ok(err)
	r.ok(conn.Flush())
	seen := r.watches(r.holder("edge-2"))
	r.ok(r.envoys[1].Kill())
	r.findsEvent("edge-2 went away", func(e event) bool {
		return e.Kind == "node-away" && e.Node == "edge-2" && e.At.After(killed)
	}, "--kind", "away", "--node", "edge-2")
	r.eventually(func() error {
		m, err := heard.NextMsg(time.Second)
		if err == nil && !strings.Contains(string(m.Data), `"node":"edge-2"`) {
			err = fmt.Errorf("NATS carries %s", m.Data)
		}
		return err
	})
	r.eventually(func() error {
		if text := seen(); !strings.Contains(text, "node edge-2 has gone away from this replica") {
			return fmt.Errorf("watch shows %q", text)
		}
		return nil
	})

	// Once its lease has ended the node is gone, and not forgotten until an operator says so.
	r.eventuallyWithin(45*time.Second, func() error {
		if got := r.all("edge-2"); got.State != "gone" || len(got.Secrets) != 1 || got.Secrets[0].Version == "" {
			return fmt.Errorf("nodes --all shows %+v", got)
		}
		return nil
	})
	if gone := r.recorded("--node", "edge-2", "--kind", "gone").Events; len(gone) != 1 {
		t.Errorf("edge-2 is gone, which two replicas tell so: %+v", gone)
	}
	for node, want := range map[string]string{"edge-1": "live", "never": "missing"} {
		if got := r.all(node); got.State != want {
			t.Errorf("nodes --all shows %s as %q, want %q", node, got.State, want)
		}
	}
	var st status
	r.ok(r.show(&st, "status"))
	if all := strings.Join(st.Degraded, "\n"); !strings.Contains(all, "never (never seen)") {
		t.Errorf("status does not name the node that is missing: %s", all)
	}
	for _, p := range r.planes {
		r.eventually(func() error { // each replica looks at the records by itself
			if n := r.at(p).metric("lockstep_nodes_gone"); n != 1 {
				return fmt.Errorf("%s: lockstep_nodes_gone is %v, want 1", p.Name(), n)
			}
			return nil
		})
	}
	r.mustFail(5, "it is connected", "node", "forget", "edge-1")
	r.mustFail(4, "was not here", "node", "forget", "nobody")
	r.mustRun("node", "forget", "edge-2")
	if got := r.all("edge-2"); got.State != "" {
		t.Errorf("edge-2 was forgotten, and nodes --all shows %+v", got)
	}
}

// all is the row of a node in the list of all nodes.
func (s *stage) all(name string) (found node) {
	s.t.Helper()
	var out struct{ Nodes []node }
	s.ok(s.show(&out, "nodes", "--all"))
	for _, n := range out.Nodes {
		if n.Node == name {
			found = n
		}
	}
	return found
}

// watches runs `lockstep watch` on a replica. It returns what that has shown.
func (r *replicated) watches(p *fleet.Lockstepd) func() string {
	r.t.Helper()
	shown := r.path("watch.txt")
	out, err := os.Create(shown)
	r.ok(err)
	r.t.Cleanup(func() { out.Close() })
	cmd := exec.CommandContext(r.ctx, filepath.Join(bin, "lockstep"), "--data-dir", p.Data, "watch")
	cmd.Stdout = out
	r.ok(cmd.Start())
	r.t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	read := func() string {
		b, err := os.ReadFile(shown)
		r.ok(err)
		return string(b)
	}
	// What happened before it was connected is not shown.
	r.eventually(func() error {
		r.mustRun("rotate", "--wait", "--timeout", "20s", "--why", "somebody watches")
		if read() == "" {
			return errNotYet
		}
		return nil
	})
	return read
}
