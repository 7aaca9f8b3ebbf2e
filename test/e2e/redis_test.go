package e2e

import (
	"testing"
	"time"

	"github.com/lockstep-tls/lockstep/test/fleet"
)

// TestTheRedisStoreFails: the one server is killed, stalled, out of memory, out of bounds for us, and emptied.
func TestTheRedisStoreFails(t *testing.T) {
	var redis *fleet.RedisServer
	r := replicas(t, 2, func(s *stage) string {
		var err error
		redis, err = s.fleet.Redis(s.ctx, "store")
		s.ok(err)
		return "redis://" + redis.Addr
	})
	r.edges(2)
	r.phase("steady", 2)
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
		{"no memory", func() { do("CONFIG", "SET", "maxmemory", "1"); do("CONFIG", "SET", "maxmemory-policy", "noeviction") }, func() { do("CONFIG", "SET", "maxmemory", "0") }},
		{"read-only", func() { do("REPLICAOF", "127.0.0.1", "1") }, func() { do("REPLICAOF", "NO", "ONE") }},
	} {
		fault.make()
		r.refuses(fault.name)
		r.serves(a, fault.name, 2*time.Second)
		fault.undo()
		r.instep(a, fault.name, 2, 5*time.Second)
	}
	before := r.now().Version
	do("FLUSHALL")
	r.writtenBack(a, before)
}

// TestRedisSentinelFailsOver: a master that is killed, and one that stalls and comes back when another has its place. The Sentinels' own failover is
// not ours; from its end on the clock runs.
func TestRedisSentinelFailsOver(t *testing.T) {
	var redis *fleet.RedisSentinel
	r := replicas(t, 2, func(s *stage) string {
		var err error
		redis, err = s.fleet.RedisSentinel(s.ctx, "store")
		s.ok(err)
		return "redis+sentinel://" + redis.Addrs() + "/" + redis.Master
	})
	r.edges(2)
	r.phase("steady", 2)
	a := r.clients()
	r.instep(a, "the start", 2, 5*time.Second)
	master, other := redis.Servers[0], redis.Servers[1]

	r.ok(master.Pause())
	r.ok(redis.Switched(r.ctx, master))
	r.instep(a, "the failover from a stalled master", 2, 3500*time.Millisecond)
	r.ok(master.Resume())
	r.serves(a, "the return of the stalled master", 2*time.Second)
	r.instep(a, "the return of the stalled master", 2, 3500*time.Millisecond)

	r.ok(other.Kill())
	r.ok(redis.Switched(r.ctx, other))
	r.instep(a, "the failover from a killed master", 2, 3500*time.Millisecond)
	r.ok(other.Restart())
	r.instep(a, "the return of the killed master", 2, 3500*time.Millisecond)
}
