package e2e

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/lockstep-tls/lockstep/test/fleet"
)

// replicated is a stage with several lockstepd on one store. The CLI asks the one that is
// stage.plane.
type replicated struct {
	*stage
	planes []*fleet.Lockstepd
	events *fleet.NATS
	xds    []string
}

// replicas starts n lockstepd on the store, and two Envoys that know them all. Certificates are in
// the store.
func replicas(t *testing.T, n int, open func(s *stage) (url string), more ...string) *replicated {
	t.Helper()
	return replicasOver(t, n, func(s *stage) *fleet.NATS {
		events, err := s.fleet.NATS(s.ctx, "events", 1)
		s.ok(err)
		return events
	}, open, more...)
}

// replicasOver does the same with events of the caller's; without open, they are the store, too.
func replicasOver(
	t *testing.T, n int, events func(s *stage) *fleet.NATS, open func(s *stage) (url string), more ...string,
) *replicated {
	t.Helper()
	r := &replicated{stage: newStage(t,
		setup{later: true, scopes: fmt.Sprintf("  default: {ticket_lifetime: %s, node_lease: 10s}\n", lifetime)})}
	s := r.stage
	r.events = events(s)
	url := "nats://" + r.events.Addrs()
	if open != nil {
		url = open(s)
	}
	for i := range n {
		r.join(fmt.Sprintf("replica-%d", i+1), url, more...)
	}
	s.plane = r.planes[0]
	for _, h := range s.hosts {
		s.writePair(h, s.issue(h))
	}
	return r
}

// onRedis sets a stage for replicas on one Redis, with a NATS server for events. The test starts
// them. It returns the URL of the store, too.
func onRedis(t *testing.T, how setup) (r *replicated, url string, redis *fleet.RedisServer) {
	t.Helper()
	how.later = true
	r = &replicated{stage: newStage(t, how)}
	r.moreTime(3 * time.Minute)
	var err error
	r.events, err = r.fleet.NATS(r.ctx, "events", 1)
	r.ok(err)
	oneRedis(r.stage, &url, &redis)
	return r, url, redis
}

func (r *replicated) join(name, url string, more ...string) *fleet.Lockstepd {
	r.t.Helper()
	return r.joinIn(r.fleet, fleet.Lockstepd{}, name, url, more...)
}

// joinIn starts a replica in that fleet; o may say what join does not.
func (r *replicated) joinIn(f *fleet.Fleet, o fleet.Lockstepd, name, url string, more ...string) *fleet.Lockstepd {
	r.t.Helper()
	o.Bin, o.NATS, o.Args = cmp.Or(o.Bin, bin), "-",
		append([]string{"--config", r.path("lockstep.yaml"), "--store", url,
			"--events", "nats://" + r.events.Addrs(), "--kek", r.path("sealing.key"), "--refresh", "1s"}, more...)
	p, err := f.Lockstepd(name, o)
	r.ok(err)
	r.ok(p.Ready(r.ctx))
	r.planes, r.xds = append(r.planes, p), append(r.xds, p.XDS)
	return p
}

// edges starts Envoys that know all replicas.
func (r *replicated) edges(n int) {
	r.t.Helper()
	for i := range n {
		r.envoy(fmt.Sprintf("edge-%d", i+1), r.more()...)
	}
	r.awaitReady()
}

// more are the flags of bootstrap for the replicas beside stage.plane.
func (r *replicated) more() (flags []string) {
	for _, x := range r.xds {
		if x != r.plane.XDS {
			flags = append(flags, "--xds", x)
		}
	}
	return flags
}

// ask makes the CLI ask that replica.
func (r *replicated) ask(p *fleet.Lockstepd) { r.plane = p }

// instep demands that a rotation takes the whole fleet along, soon after a repair. It shows how
// soon, and fails beyond three times what is asked for: the machine may be busy with other tests.
func (r *replicated) instep(a *account, after string, nodes int, within time.Duration) {
	r.t.Helper()
	began := time.Now()
	var last said
	r.eventually(func() error {
		last = r.lockstep("rotate", "--wait", "--timeout", "10s", "--why", after)
		if r.mayAskAgain(last) { // it says nothing of the repair
			began = time.Now()
		}
		if last.code != 0 {
			return fmt.Errorf("after %s: rotate: exit code %d: %s%s", after, last.code, last.out, last.err)
		}
		return nil
	})
	took := time.Since(began)
	r.awaitPhase("steady", nodes)
	a.awaitKeyInUse()
	a.cross(after)
	r.t.Logf("after %s: in step again, a whole rotation later, in %s", after, took.Round(10*time.Millisecond))
	if took > 3*within {
		r.t.Errorf("after %s: %s until the fleet was in step, want %s", after, took, within)
	}
}

// holder is the replica to which the node is connected. One that the node has just come to may not
// have told the others yet.
func (r *replicated) holder(node string) (p *fleet.Lockstepd) {
	r.t.Helper()
	r.eventually(func() error {
		if p = r.finds(node); p == nil {
			return fmt.Errorf("nobody holds %s: %v", node, r.names())
		}
		return nil
	})
	return p
}

// finds is holder; nil: nobody is it now.
func (r *replicated) finds(node string) *fleet.Lockstepd {
	r.t.Helper()
	var out struct {
		Nodes []struct{ Node, Replica string }
	}
	r.ok(r.show(&out, "nodes"))
	for _, n := range out.Nodes {
		for _, p := range r.planes {
			if n.Node == node && n.Replica == r.id(p) {
				return p
			}
		}
	}
	return nil
}

func natsCluster(s *stage) string {
	s.t.Helper()
	n, err := s.fleet.NATS(s.ctx, "store", 3)
	s.ok(err)
	return "nats://" + n.Addrs()
}

// TestTwoReplicasAreOne: whichever is asked, it shows the whole fleet; each may be killed or
// stopped in any phase.
func TestTwoReplicasAreOne(t *testing.T) {
	t.Parallel() // it mostly waits
	r := replicas(t, 2, natsCluster)
	r.edges(2)
	last := r.scripted("last", accept)
	r.awaitPhase("steady", 3)
	a := r.clients()
	for _, p := range r.planes {
		r.ask(p)
		r.awaitPhase("steady", 3)
		if got, want := r.names(), []string{"edge-1 live", "edge-2 live", "last live"}; !slices.Equal(got, want) {
			t.Errorf("%s shows %v, want %v", p.Name(), got, want)
		}
	}
	r.instep(a, "the start", 3, 5*time.Second)

	one := r.holder("last") // is where the scripted node is, and stays
	other := r.planes[0]
	if other == one {
		other = r.planes[1]
	}
	for _, phase := range []struct {
		name  string
		until script
	}{{"distributing", on(grows, withhold)}, {"promoting", on(leads, withhold)}} {
		for _, fault := range []struct {
			name string
			do   func(p *fleet.Lockstepd)
			undo func(p *fleet.Lockstepd)
		}{
			{"kill -9", func(p *fleet.Lockstepd) { r.ok(p.Kill()) }, func(p *fleet.Lockstepd) {
				r.ok(p.Restart())
				r.ok(p.Ready(r.ctx))
			}},
			{"SIGSTOP", func(p *fleet.Lockstepd) { r.ok(p.Pause()) }, func(p *fleet.Lockstepd) { r.ok(p.Resume()) }},
		} {
			what := fault.name + " while " + phase.name
			r.ask(one)
			last.follow(phase.until)
			r.mustRun("rotate", "--why", what)
			r.awaitPhase(phase.name, 2)
			a.cross(phase.name)
			fault.do(other)
			a.check(what)
			time.Sleep(2 * time.Second)
			a.check(what + ", 2 s later")
			last.follow(accept)
			fault.undo(other)
			repaired := time.Now()
			r.awaitPhase("steady", 3)
			t.Logf("after %s: steady %s after the repair", what, time.Since(repaired).Round(10*time.Millisecond))
			r.instep(a, what, 3, 5*time.Second)
		}
	}
	for _, l := range r.history() {
		if len(l.LeftBehind) > 0 {
			t.Errorf("left behind: %+v", l)
		}
	}
}

// TestTheNATSStoreFails: servers of the cluster are killed, all at once restarted, and the stream
// is deleted. What is published goes on being served, and the fleet is in step again soon after the
// repair.
func TestTheNATSStoreFails(t *testing.T) {
	t.Parallel() // it mostly waits
	var cluster *fleet.NATS
	r := replicas(t, 2, func(s *stage) string {
		var err error
		cluster, err = s.fleet.NATS(s.ctx, "store", 3)
		s.ok(err)
		return "nats://" + cluster.Addrs()
	})
	r.edges(2)
	r.awaitPhase("steady", 2)
	a := r.clients()
	r.instep(a, "the start", 2, 5*time.Second)
	kill := func(servers ...*fleet.NATSServer) {
		for _, s := range servers {
			r.ok(s.Kill())
		}
	}
	restart := func(servers ...*fleet.NATSServer) {
		for _, s := range servers {
			r.ok(s.Restart())
		}
		r.ok(cluster.Ready(r.ctx))
	}

	kill(cluster.Servers[0])
	// NATS elects another leader first, which takes it 4 to 9 s
	r.instep(a, "the loss of one of three", 2, 12*time.Second)
	restart(cluster.Servers[0])
	r.instep(a, "its return", 2, 5*time.Second)

	kill(cluster.Servers[1:]...)
	r.refuses("the loss of the quorum")
	r.serves(a, "the loss of the quorum", 3*time.Second)
	restart(cluster.Servers[1:]...)
	r.instep(a, "the return of the quorum", 2, 5*time.Second)

	kill(cluster.Servers...)
	r.serves(a, "the loss of all", 2*time.Second)
	restart(cluster.Servers...)
	r.instep(a, "the restart of all", 2, 5*time.Second)

	before := r.scope().Version
	conn, err := nats.Connect("nats://" + cluster.Addrs())
	r.ok(err)
	defer conn.Close()
	js, err := jetstream.New(conn)
	r.ok(err)
	for name := range js.StreamNames(r.ctx).Name() {
		r.ok(js.DeleteStream(r.ctx, name))
	}
	r.writtenBack(a, before)
}

// refuses demands that nothing is changed while the store cannot be written: it failed, or what
// cannot be written down was refused.
func (r *replicated) refuses(why string) {
	r.t.Helper()
	if got := r.lockstep("rotate", "--why", why); got.code != 1 && got.code != 5 {
		r.t.Errorf("%s: rotate: exit code %d, want 1 or 5: %s%s", why, got.code, got.out, got.err)
	}
}

// serves demands that clients are served as before for that long.
func (r *replicated) serves(a *account, after string, d time.Duration) {
	r.t.Helper()
	a.check(after)
	time.Sleep(d)
	a.check(after + ", " + d.String() + " later")
}

// writtenBack demands that an emptied store has its ring and certificates again.
func (r *replicated) writtenBack(a *account, version string) {
	r.t.Helper()
	began := time.Now()
	for _, p := range r.planes {
		r.ask(p)
		r.eventually(func() error {
			sc, err := r.scopeOf("default")
			if err == nil && (sc.Version != version ||
				!strings.Contains(strings.Join(sc.BlockedBy, "\n"), "had lost its content")) {
				err = fmt.Errorf("%s, want %s; blocked by %v", sc.Version, version, sc.BlockedBy)
			}
			return err
		})
	}
	for _, h := range r.hosts {
		r.eventually(func() error {
			if got := r.lockstep("cert", "get", h); got.code != 0 {
				return fmt.Errorf("%s: %s", h, got.err)
			}
			return nil
		})
	}
	r.t.Logf("the emptied store has its content again after %s", time.Since(began).Round(10*time.Millisecond))
	a.cross("the store was emptied")
	late := r.envoy("late", r.more()...)
	r.awaitReady(late)
	a.cross("an Envoy joined after the store was emptied")
}
