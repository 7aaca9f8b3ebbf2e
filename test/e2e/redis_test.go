package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-tls/lockstep/test/fleet"
)

// TestTheRedisStoreFails: the one server is killed, stalled, out of memory, out of bounds for us,
// and emptied.
func TestTheRedisStoreFails(t *testing.T) {
	t.Parallel() // it mostly waits
	var redis *fleet.RedisServer
	r := replicas(t, 2, func(s *stage) string {
		var err error
		redis, err = s.fleet.Redis(s.ctx, "store")
		s.ok(err)
		return "redis://" + redis.Addr
	})
	r.edges(2)
	r.awaitPhase("steady", 2)
	a := r.clients()
	r.instep(a, "the start", 2, 5*time.Second)
	do := func(args ...any) {
		t.Helper()
		_, err := redis.Do(r.ctx, args...)
		r.ok(err)
	}
	for _, fault := range []struct {
		name       string
		make, undo func()
	}{
		{"kill -9", func() { r.ok(redis.Kill()) }, func() { r.ok(redis.Restart()); r.ok(redis.Ready(r.ctx)) }},
		{"a stalled server", func() { r.ok(redis.Pause()) }, func() { r.ok(redis.Resume()) }},
		{
			"no memory",
			func() { do("CONFIG", "SET", "maxmemory", "1"); do("CONFIG", "SET", "maxmemory-policy", "noeviction") },
			func() { do("CONFIG", "SET", "maxmemory", "0") },
		},
		{"read-only", func() { do("REPLICAOF", "127.0.0.1", "1") }, func() { do("REPLICAOF", "NO", "ONE") }},
	} {
		fault.make()
		r.refuses(fault.name)
		r.serves(a, fault.name, 2*time.Second)
		fault.undo()
		r.instep(a, fault.name, 2, 5*time.Second)
	}
	before := r.scope().Version
	do("FLUSHALL")
	r.writtenBack(a, before)
}

// TestRedisSentinelFailsOver: a master that is killed, and one that stalls and comes back when
// another has its place. The Sentinels' own failover is not ours; from its end on the clock runs.
func TestRedisSentinelFailsOver(t *testing.T) {
	t.Parallel() // it mostly waits
	var redis *fleet.RedisSentinel
	r := replicas(t, 2, func(s *stage) string {
		var err error
		redis, err = s.fleet.RedisSentinel(s.ctx, "store")
		s.ok(err)
		return "redis+sentinel://" + redis.Addrs() + "/" + redis.Master
	})
	r.edges(2)
	r.awaitPhase("steady", 2)
	a := r.clients()
	r.instep(a, "the start", 2, 5*time.Second)
	master, other := redis.Servers[0], redis.Servers[1]

	r.ok(master.Pause())
	r.ok(redis.Switched(r.ctx, master))
	r.instep(a, "the failover from a stalled master", 2, 3500*time.Millisecond)
	r.ok(master.Resume())
	r.serves(a, "the return of the stalled master", 2*time.Second)
	r.instep(a, "the return of the stalled master", 2, 3500*time.Millisecond)

	r.ok(redis.Replicated(r.ctx, other))
	r.instep(a, "the stalled master is a replica", 2, 3500*time.Millisecond)
	r.ok(other.Kill())
	r.ok(redis.Switched(r.ctx, other))
	r.instep(a, "the failover from a killed master", 2, 3500*time.Millisecond)
	if n := r.writesBack(); n != 0 {
		t.Errorf("%d times the store had gone back, and lost what a replica had", n)
	}
	r.ok(other.Restart())
	r.instep(a, "the return of the killed master", 2, 3500*time.Millisecond)

	// The one server that goes on has no replica: what it acknowledges is on its disk alone. It
	// dies, and the Sentinels go back to the other, which was never told: the store has lost
	// acknowledged writes. They are written back, and steps wait until all rosters are, too.
	r.ok(redis.Replicated(r.ctx, master))
	r.ok(master.Pause())
	r.ok(redis.Switched(r.ctx, master))
	r.instep(a, "another failover from a stalled master", 2, 3500*time.Millisecond)
	before := r.scope().Version
	r.ok(master.Resume())
	r.ok(other.Kill())
	r.ok(redis.Switched(r.ctx, other))
	r.instep(a, "a failover that lost acknowledged writes", 2, 3500*time.Millisecond)
	t.Logf("%d rings written back; the last before was %s", r.writesBack(), before)
}

// writesBack counts how often a ring was written back to a store that had gone back to an older
// one.
func (r *replicated) writesBack() (n int) {
	r.t.Helper()
	for _, l := range r.history() {
		if l.What == "written-back" {
			n++
		}
	}
	return n
}

// TestAStartOnAnEmptiedRedis: all replicas are down while the store is emptied. One of them starts
// again, and one that is new. Envoys go on with what they hold; nothing is called absent, and no
// ring is made that begins below those that they hold.
func TestAStartOnAnEmptiedRedis(t *testing.T) {
	t.Parallel() // it mostly waits
	var redis *fleet.RedisServer
	r := replicas(t, 2, func(s *stage) string {
		var err error
		redis, err = s.fleet.Redis(s.ctx, "store")
		s.ok(err)
		return "redis://" + redis.Addr
	})
	r.edges(2)
	r.awaitPhase("steady", 2)
	a := r.clients()
	r.instep(a, "the start", 2, 5*time.Second)
	for _, p := range r.planes {
		r.ok(p.Kill())
	}
	_, err := redis.Do(r.ctx, "FLUSHALL")
	r.ok(err)
	r.ok(r.planes[0].Restart())
	r.ask(r.planes[0])
	// a new replica knows of the loss from now on
	r.eventually(func() error { return r.held("lost") })
	fresh, err := r.fleet.Lockstepd("replica-3",
		fleet.Lockstepd{Bin: bin, NATS: "-", XDS: r.planes[1].XDS, Args: []string{"--config", r.path("lockstep.yaml"),
			"--store", "redis://" + redis.Addr, "--events", "nats://" + r.events.Addrs(),
			"--kek", r.path("sealing.key"), "--refresh", "1s"}})
	r.ok(err)
	r.ask(fresh)
	r.eventually(func() error { return r.held("lost") })
	r.serves(a, "the start on an emptied store", 15*time.Second)
	for _, p := range []*fleet.Lockstepd{r.planes[0], fresh} {
		r.ask(p)
		r.ok(r.held("lost"))
	}
	a.stop() // soon every key is replaced: those of the emptied store may have been burnt
	r.eventuallyWithin(40*time.Second, func() error {
		sc, err := r.scopeOf("default")
		if err == nil && (sc.Phase != "steady" || sc.Nodes.Accepted != 2) {
			err = fmt.Errorf("%s %s, %+v", sc.Version, sc.Phase, sc.Nodes)
		}
		return err
	})
	if v := r.scope().Version; !strings.HasPrefix(v, "g4-") {
		t.Errorf("the ring is %s; nodes hold g3, so it was to be g4", v)
	}
	r.clients().check("every key was replaced")
}

// held is an error unless the scope has no ring, for a reason that has this word in it.
func (r *replicated) held(word string) error {
	got := r.lockstep("rotate")
	if got.code == 0 || !strings.Contains(got.out+got.err, word) {
		return fmt.Errorf("rotate: exit code %d, want a refusal about %q: %s%s", got.code, word, got.out, got.err)
	}
	return nil
}
