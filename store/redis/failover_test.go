package redis

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-tls/lockstep/store"
	"github.com/lockstep-tls/lockstep/store/storetest"
	"github.com/lockstep-tls/lockstep/test/fleet"
)

func sentinel(t *testing.T) (*fleet.RedisSentinel, Config) {
	t.Helper()
	r, err := fleet.ForTest(t).RedisSentinel(limited(t), "mymaster")
	if err != nil {
		t.Fatal(err)
	}
	return r, at(t, "redis+sentinel://"+r.Addrs()+"/mymaster")
}

// failover makes a failover happen under writers of values of that size, and a watcher.
func failover(t *testing.T, cfg Config, size int, fail, wait func() error) {
	t.Helper()
	s, watcher := open(t, cfg), open(t, cfg)
	put(t, s, "a/x", 0, "v")
	_, head, err := watcher.Changed(t.Context(), "a/", 0)
	if err != nil {
		t.Fatal(err)
	}
	w := write(t, s, 4, size)
	w.goesOn(3 * time.Second)
	if err := fail(); err != nil {
		t.Fatal(err)
	}
	if err := wait(); err != nil {
		t.Fatal(err)
	}
	t.Logf("it went on %v after the failover", w.goesOn(3500*time.Millisecond))
	w.check(s)
	keys, next, err := watcher.Changed(t.Context(), "a/", head)
	if err != nil || len(keys) != 1 || next <= head {
		t.Errorf("Changed = %q, %d, %v after a failover, want all keys and more than %d", keys, next, err, head)
	}
	if rev := put(t, watcher, "a/y", 0, "v"); rev <= next {
		t.Errorf("revision %d after %d", rev, next)
	}
	if keys, _, err := watcher.Changed(t.Context(), "a/", next); err != nil || len(keys) != 1 {
		t.Errorf("Changed = %q, %v, want the one that was written since", keys, err)
	}
}

// Valkey is what Redis was until 7.2. It is run where `make valkey` has installed it.
func TestConformanceOnValkey(t *testing.T) {
	t.Parallel() // it waits most of the time
	f, err := fleet.ForTest(t).OnValkey()
	if err != nil {
		t.Skip(err)
	}
	one, err := f.Redis(limited(t), "valkey")
	if err != nil {
		t.Fatal(err)
	}
	if got := do(t, one, "INFO server"); !strings.Contains(got, "server_name:valkey") {
		t.Fatalf("this is not Valkey: %.300s", got)
	}
	watched, err := f.RedisSentinel(limited(t), "mymaster")
	if err != nil {
		t.Fatal(err)
	}
	cluster, err := f.RedisCluster(limited(t), "cluster")
	if err != nil {
		t.Fatal(err)
	}
	sentinels := at(t, "redis+sentinel://"+watched.Addrs()+"/mymaster")
	for kind, cfg := range map[string]Config{
		"one server": at(t, "redis://"+one.Addr+"/3"), "Sentinel": sentinels,
		"cluster": at(t, "redis+cluster://"+cluster.Addrs()),
	} {
		t.Run(kind, func(t *testing.T) {
			storetest.Run(t, func(t *testing.T) store.Store { return open(t, anew(cfg)) })
		})
	}
	t.Run("emptied", func(t *testing.T) {
		cfg := anew(at(t, "redis://"+one.Addr))
		lostAndMadeAgain(t, open(t, cfg), open(t, cfg), open(t, cfg), func() { do(t, one, "FLUSHALL") })
	})
	t.Run("its master is killed", func(t *testing.T) {
		failover(t, sentinels, 1, watched.Servers[0].Kill,
			func() error { return watched.Switched(limited(t), watched.Servers[0]) })
	})
}

func TestConformanceOnSentinel(t *testing.T) {
	t.Parallel() // it waits most of the time
	r, cfg := sentinel(t)
	storetest.Run(t, func(t *testing.T) store.Store { return open(t, anew(cfg)) })
	t.Run("its master is killed when the replica lags", func(t *testing.T) {
		failover(t, cfg, 64<<10, func() error {
			defer r.Servers[1].Resume()
			if err := r.Servers[1].Pause(); err != nil {
				return err
			}
			time.Sleep(waitTimeout / 2) // of writing
			return r.Servers[0].Kill()
		}, func() error { return r.Switched(limited(t), r.Servers[0]) })
	})
}

// The host of the master and of a Sentinel freezes, and comes back when there is another master:
// for some seconds there are two.
func TestAStalledMasterIsLeftAndNotTakenBack(t *testing.T) {
	t.Parallel() // it waits most of the time
	r, cfg := sentinel(t)
	cfg.Servers = cfg.Servers[:1] // the one that is asked; the others are known by it
	stalled := []*fleet.RedisServer{r.Servers[0], r.Sentinels[0]}
	failover(t, cfg, 1, func() error {
		for _, s := range stalled {
			if err := s.Pause(); err != nil {
				return err
			}
		}
		return nil
	}, func() error {
		others := &fleet.RedisSentinel{Master: r.Master, Sentinels: r.Sentinels[1:]}
		return others.Switched(limited(t), r.Servers[0])
	})
	cfg.Servers = []string{r.Sentinels[1].Addr}
	s := open(t, cfg)
	w := write(t, s, 4, 1)
	for _, r := range stalled {
		if err := r.Resume(); err != nil {
			t.Fatal(err)
		}
	}
	soon(t, 20*time.Second, func() error { // until it is a replica
		got, err := r.Servers[0].Do(t.Context(), "INFO", "replication")
		if err != nil { // it cuts its clients off when it becomes one
			return err
		}
		if got := fmt.Sprint(got); !strings.Contains(got, "master_link_status:up") {
			return errNotYet(got)
		}
		return nil
	})
	w.goesOn(3 * time.Second)
	w.check(s)
}

type errNotYet string

func (e errNotYet) Error() string { return string(e) }

func TestConformanceOnACluster(t *testing.T) {
	t.Parallel() // it waits most of the time
	r, err := fleet.ForTest(t).RedisCluster(limited(t), "redis")
	if err != nil {
		t.Fatal(err)
	}
	cfg := at(t, "redis+cluster://"+r.Addrs())
	storetest.Run(t, func(t *testing.T) store.Store { return open(t, anew(cfg)) })
	old, err := r.MasterOf(limited(t), "{lockstep}")
	if err != nil {
		t.Fatal(err)
	}
	t.Run("the store's slot moves", func(t *testing.T) { slotMoves(t, r, anew(cfg)) })
	t.Run("emptied", func(t *testing.T) {
		cfg := anew(cfg)
		lostAndMadeAgain(t, open(t, cfg), open(t, cfg), open(t, cfg), func() {
			m, err := r.MasterOf(limited(t), newLayout(cfg.Prefix).meta)
			if err != nil {
				t.Fatal(err)
			}
			do(t, m, "FLUSHALL")
		})
	})
	t.Run("a master is killed", func(t *testing.T) {
		failover(t, cfg, 1, old.Kill, func() error {
			return fleet.Until(limited(t), func() error { _, err := r.MasterOf(t.Context(), "{lockstep}"); return err })
		})
	})
}

// slotMoves moves the slot of the store to another master while it is written to.
func slotMoves(t *testing.T, r *fleet.RedisCluster, cfg Config) {
	s := open(t, cfg)
	w := write(t, s, 4, 1)
	w.goesOn(3 * time.Second)
	key := newLayout(cfg.Prefix).meta
	from, err := r.MasterOf(limited(t), key)
	if err != nil {
		t.Fatal(err)
	}
	to := r.Servers[0]
	if to == from {
		to = r.Servers[1]
	}
	slot, fromID, toID := do(t, from, "CLUSTER KEYSLOT", key), do(t, from, "CLUSTER MYID"), do(t, to, "CLUSTER MYID")
	do(t, to, "CLUSTER SETSLOT", slot, "IMPORTING", fromID)
	do(t, from, "CLUSTER SETSLOT", slot, "MIGRATING", toID)
	host, port, _ := strings.Cut(to.Addr, ":")
	for {
		v, err := from.Do(limited(t), "CLUSTER", "GETKEYSINSLOT", slot, 100)
		if err != nil {
			t.Fatal(err)
		}
		keys, _ := v.([]any)
		if len(keys) == 0 {
			break
		}
		if _, err := from.Do(limited(t),
			append([]any{"MIGRATE", host, port, "", 0, 1000, "KEYS"}, keys...)...); err != nil {
			t.Fatal(err)
		}
	}
	for _, m := range []*fleet.RedisServer{to, from} {
		do(t, m, "CLUSTER SETSLOT", slot, "NODE", toID)
	}
	t.Logf("it went on %v after the move", w.goesOn(3500*time.Millisecond))
	w.check(s)
}
