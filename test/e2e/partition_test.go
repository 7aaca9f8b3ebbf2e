package e2e

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/lockstep-tls/lockstep/test/fleet"
)

// TestReplicasApart: the replicas cannot reach each other; then one cannot reach the store, with
// nodes on both; then not NATS. Nothing tells them: what they send is dropped.
func TestReplicasApart(t *testing.T) {
	t.Parallel()
	if !fleet.Secluded(t) {
		return
	}
	d := divide(t, natsBox)
	one, two := d.planes[0], d.planes[1]
	for _, p := range d.planes { // each stays at its replica
		d.ask(p)
		d.scripted("at-"+p.Name(), accept)
	}
	d.awaitPhase("steady", 4)
	a := d.clients()
	d.instep(a, "the start", 4, 5*time.Second)

	d.ok(d.net.Cut(d.one, d.two))
	for _, p := range d.planes {
		d.ask(p)
		if silent := d.silent(); len(silent) != 1 {
			t.Errorf("%s names as silent: %v", p.Name(), silent)
		}
	}
	d.instep(a, "a cut between the replicas, while it stands", 4, 5*time.Second)
	d.ok(d.net.Join(d.one, d.two))
	d.eventuallyWithin(5*time.Second, func() error {
		if silent := d.silent(); len(silent) > 0 {
			return fmt.Errorf("silent: %v", silent)
		}
		return nil
	})
	d.instep(a, "a cut between the replicas", 4, 5*time.Second)

	d.ok(d.net.Cut(d.one, d.store))
	d.ask(one)
	began := time.Now()
	d.refuses("a cut between a replica and the store")
	t.Logf("%s refuses a rotation after %s", one.Name(), time.Since(began).Round(10*time.Millisecond))
	d.ask(two)
	d.mustRun("rotate", "--why", "the other replica cannot reach the store")
	d.waitsFor(a, "a cut between a replica and the store", 6*time.Second)
	d.ok(d.net.Join(d.one, d.store))
	d.instep(a, "a cut between a replica and the store", 4, 5*time.Second)

	d.ok(d.net.Cut(d.one, d.ev))
	d.instep(a, "a cut between a replica and NATS, while it stands", 4, 5*time.Second)
	d.ask(one)
	began = time.Now()
	d.eventuallyWithin(20*time.Second, func() error { return d.says("events are down") })
	t.Logf("%s notices that it is cut off from NATS after %s", one.Name(), time.Since(began).Round(10*time.Millisecond))
	d.instep(a, "NATS was missed, by the replica that missed it", 4, 5*time.Second)
	d.ok(d.net.Join(d.one, d.ev))
	began = time.Now()
	d.eventuallyWithin(15*time.Second, func() error {
		if d.says("events are down") == nil {
			return errors.New("events are still down")
		}
		return nil
	})
	t.Logf("%s has NATS again %s after the repair", one.Name(), time.Since(began).Round(10*time.Millisecond))
	d.instep(a, "a cut between a replica and NATS", 4, 5*time.Second)
	d.leftNobody()
}

// TestNodesApart: nodes cannot reach one of the replicas, in one direction or both, then none of
// them; then a replica's cable is pulled. They move, or wait, and take part in each rotation.
func TestNodesApart(t *testing.T) {
	t.Parallel()
	if !fleet.Secluded(t) {
		return
	}
	d := divide(t, redisBox)
	one, two := d.planes[0], d.planes[1]
	d.awaitPhase("steady", 2)
	a := d.clients()
	d.instep(a, "the start", 2, 5*time.Second)

	d.ok(d.net.Cut(d.here, d.two))
	d.moved(one, "the second replica is cut off from the nodes")
	d.ok(d.net.Join(d.here, d.two))
	d.instep(a, "the second replica was cut off from the nodes", 2, 5*time.Second)

	// What nodes say no longer reaches the first replica, what it says reaches them: a rotation
	// waits, and the nodes move under it.
	d.ok(d.net.Drop(d.here, d.one))
	d.ask(two)
	d.mustRun("rotate", "--why", "nodes are not heard by a replica")
	d.moved(two, "nodes are not heard by the first replica, and a rotation waits")
	d.awaitPhase("steady", 2)
	a.awaitKeyInUse()
	a.cross("nodes moved while a rotation waited for them")
	d.ok(d.net.Pass(d.here, d.one))
	d.instep(a, "the first replica hears nodes again", 2, 5*time.Second)

	// All move to the other replica, which has nothing to send to them.
	d.ask(one)
	before, generation := d.secrets("sent"), d.generation()
	d.ok(d.net.Cut(d.here, d.two))
	d.moved(one, "the second replica is cut off from the nodes")
	if sent, news := d.secrets("sent")-before, d.generation()-generation; sent > float64(2*news*len(d.envoys)) {
		// a key may have retired, and what a node was sent last is not known: two encodings
		t.Errorf("%v secrets were sent to nodes that held them already", sent)
	}
	d.instep(a, "a cut between nodes and a replica, while it stands", 2, 5*time.Second)
	d.ok(d.net.Join(d.here, d.two))
	d.instep(a, "a cut between nodes and a replica", 2, 5*time.Second)

	// The cable of the replica at which all nodes are is pulled, and put back.
	d.ok(d.net.Unplug(d.one))
	d.ask(two)
	d.mustRun("rotate", "--why", "a replica's cable was pulled")
	d.moved(two, "the first replica's cable was pulled, and a rotation waits")
	d.awaitPhase("steady", 2)
	a.awaitKeyInUse()
	a.cross("a replica's cable was pulled")
	d.ok(d.net.Plug(d.one))
	d.ask(one)
	d.instep(a, "a replica's cable was put back", 2, 5*time.Second)

	// Nodes that reach nobody serve on.
	d.ok(d.net.Cut(d.here, d.one))
	d.ok(d.net.Cut(d.here, d.two))
	d.mustRun("rotate", "--why", "nodes are cut off from all replicas")
	d.waitsFor(a, "nodes are cut off from all replicas", 10*time.Second)
	d.ok(d.net.Join(d.here, d.one))
	d.ok(d.net.Join(d.here, d.two))
	d.instep(a, "nodes were cut off from all replicas", 2, 5*time.Second)
	d.leftNobody()
}

// TestNodesLeaveAReplicaThatIsCutOffFromItsStore: all nodes are at a replica that can reach neither
// the store nor the other replica, which will take it for dead. It lets them go before that, and
// the rotation that waited for them goes on with them. Where the store is lost to all, nobody is
// sent around.
func TestNodesLeaveAReplicaThatIsCutOffFromItsStore(t *testing.T) {
	t.Parallel()
	if !fleet.Secluded(t) {
		return
	}
	d := divide(t, redisBox)
	one, two := d.planes[0], d.planes[1]
	d.awaitPhase("steady", 2)
	a := d.clients()
	d.ok(d.net.Cut(d.here, d.two))
	d.moved(one, "the second replica is cut off from the nodes")
	d.ok(d.net.Join(d.here, d.two))
	d.instep(a, "the second replica was cut off from the nodes", 2, 5*time.Second)

	d.ok(d.net.Cut(d.one, d.store))
	d.ok(d.net.Cut(d.one, d.two))
	d.ask(two)
	d.mustRun("rotate", "--why", "a replica is cut off from the store for long")
	began := time.Now()
	d.waitsFor(a, "a cut between a replica and the store", 6*time.Second)
	d.eventuallyWithin(30*time.Second, func() error {
		if sc := d.scope(); sc.Phase != "steady" {
			return fmt.Errorf("%s: blocked by %v", sc.Phase, sc.BlockedBy)
		}
		return nil
	})
	if sc := d.scope(); sc.Nodes.Live != 2 || sc.Nodes.Accepted != 2 {
		t.Errorf("the rotation ended without its nodes: %+v", sc.Nodes)
	}
	a.awaitKeyInUse()
	a.cross("a long cut between a replica and the store")
	t.Logf("the rotation ended with all nodes %s after the cut", time.Since(began).Round(10*time.Millisecond))
	d.ok(d.net.Join(d.one, d.store))
	d.ok(d.net.Join(d.one, d.two))
	d.instep(a, "a long cut between a replica and the store", 2, 5*time.Second)

	ended := func() (n float64) {
		for _, p := range d.planes {
			d.ask(p)
			n += d.secrets("closed")
		}
		return n
	}
	before := ended()
	if before == 0 {
		t.Error("the streams that were let go are not counted")
	}
	d.ok(d.net.Cut(d.one, d.store))
	d.ok(d.net.Cut(d.two, d.store))
	// longer than it takes to let nodes go, to be taken for dead, and any lease
	d.serves(a, "all replicas are cut off from the store", 36*time.Second)
	if n := ended() - before; n > 0 {
		t.Errorf("%v streams were ended although the store is lost to all", n)
	}
	d.ok(d.net.Join(d.one, d.store))
	d.ok(d.net.Join(d.two, d.store))
	d.instep(a, "all replicas were cut off from the store", 2, 5*time.Second)
	d.leftNobody()
}
