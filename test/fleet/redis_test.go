package fleet

import (
	"context"
	"testing"
	"time"
)

func TestRedisKeepsWhatItAcknowledgedAndSentinelsReplaceIt(t *testing.T) {
	f := ForTest(t)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	r, err := f.RedisSentinel(ctx, "redis")
	if err != nil {
		t.Fatal(err)
	}
	master, replica := r.Servers[0], r.Servers[1]
	if _, err := master.Do(ctx, "SET", "k", "v"); err != nil {
		t.Fatal(err)
	}
	soon(t, func() error { _, err := replica.Do(ctx, "GET", "k"); return err })
	if err := master.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := r.Switched(ctx, master); err != nil {
		t.Fatal(err)
	}
	if v, err := replica.Do(ctx, "GETSET", "k", "w"); v != "v" {
		t.Fatal(v, err)
	}
}

func TestARedisClusterReplacesAMaster(t *testing.T) {
	f := ForTest(t)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	c, err := f.RedisCluster(ctx, "redis")
	if err != nil {
		t.Fatal(err)
	}
	old, err := c.MasterOf(ctx, "k")
	if err != nil {
		t.Fatal(err)
	}
	if err := old.Kill(); err != nil {
		t.Fatal(err)
	}
	soon(t, func() error {
		s, err := c.MasterOf(ctx, "k")
		if err == nil {
			_, err = s.Do(ctx, "SET", "k", "v")
		}
		return err
	})
}
