package e2e

import (
	"fmt"
	"testing"
	"time"

	"github.com/lockstep-tls/lockstep/test/fleet"
)

// TestTheRedisClusterLosesAMaster: the one that has the store's slot is killed, and comes back as
// the replica of the other.
func TestTheRedisClusterLosesAMaster(t *testing.T) {
	t.Parallel() // it mostly waits
	var cluster *fleet.RedisCluster
	r := replicas(t, 2, func(s *stage) string {
		var err error
		cluster, err = s.fleet.RedisCluster(s.ctx, "store")
		s.ok(err)
		return "redis+cluster://" + cluster.Addrs()
	})
	r.edges(2)
	r.awaitPhase("steady", 2)
	a := r.clients()
	r.instep(a, "the start", 2, 5*time.Second)
	const slot = "{lockstep}:meta"
	master, err := cluster.MasterOf(r.ctx, slot)
	r.ok(err)
	before := r.scope()
	r.ok(master.Kill())
	a.check("the master was killed")
	began := time.Now()
	r.eventually(func() error {
		next, err := cluster.MasterOf(r.ctx, slot)
		if err == nil && next == master {
			err = fmt.Errorf("%s is still the master", next.Name())
		}
		return err
	})
	t.Logf("the cluster has another master after %s", time.Since(began).Round(10*time.Millisecond))
	r.same(before, "the failover")
	r.instep(a, "the failover", 2, 5*time.Second)
	r.ok(master.Restart())
	r.ok(master.Ready(r.ctx))
	r.serves(a, "the return of the killed master", time.Second)
	r.instep(a, "the return of the killed master", 2, 5*time.Second)
	r.content()
}
