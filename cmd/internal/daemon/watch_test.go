package daemon

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lockstep-tls/lockstep/cmd/internal/api"
	"github.com/lockstep-tls/lockstep/cmd/internal/config"
	"github.com/lockstep-tls/lockstep/internal/testkit"
	"github.com/lockstep-tls/lockstep/test/fleet"
)

// Whoever watches one replica sees what happens at all of them, each thing once. A replica that
// cannot be followed is named.
func TestWatchShowsAllReplicas(t *testing.T) {
	if testing.Short() {
		t.Skip("it needs redis-server")
	}
	redis, err := fleet.ForTest(t).Redis(t.Context(), "store")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	replica := func(name string) *running {
		return start(t, func(c *config.Config) {
			c.DataDir = filepath.Join(dir, name)
			c.Store, c.KEK, c.Events = "redis://"+redis.Addr, filepath.Join(dir, "sealing.key"), "nats://127.0.0.1:1"
			c.Refresh, c.KEKNew = time.Second, true
		})
	}
	one, two := replica("1"), replica("2")
	testkit.Until(t, func() error {
		if len(one.rolls.Peers()) != 1 || len(two.rolls.Peers()) != 1 {
			return fmt.Errorf("they have not heard of each other")
		}
		return nil
	})
	ctx, cancel := context.WithCancel(t.Context())
	var mu sync.Mutex
	var seen []api.Line
	var wg sync.WaitGroup
	wg.Go(func() {
		one.client.Watch(ctx, func(l api.Line) error {
			mu.Lock()
			defer mu.Unlock()
			seen = append(seen, l)
			return nil
		})
	})
	defer wg.Wait()
	defer cancel()
	times := func(kind, name string) (n int) {
		mu.Lock()
		defer mu.Unlock()
		for _, l := range seen {
			if l.Kind == kind && (l.Name == name || l.Node == name) {
				n++
			}
		}
		return n
	}
	testkit.Until(t, func() error {
		if one.hub.Watchers() != 1 || two.hub.Watchers() != 1 {
			return fmt.Errorf("%d and %d watch", one.hub.Watchers(), two.hub.Watchers())
		}
		return nil
	})
	for i, r := range []*running{one, two} {
		token := fmt.Sprint("t", i)
		if _, err := r.client.NewToken(t.Context(), api.NewToken{Name: token, Role: "read"}); err != nil {
			t.Fatal(err)
		}
		join(t, r.xdsListener.Addr().String(), fmt.Sprint("edge-", i), "tickets/default").gets("+tickets/default")
	}
	testkit.Until(t, func() error {
		for _, want := range [][2]string{
			{"operator", "t0"}, {"operator", "t1"}, {"node-connected", "edge-0"}, {"node-connected", "edge-1"},
		} {
			if n := times(want[0], want[1]); n != 1 {
				return fmt.Errorf("%s %s came %d times: %+v", want[0], want[1], n, seen)
			}
		}
		return nil
	})
	mu.Lock()
	rings := map[string]int{}
	for _, l := range seen {
		if l.Kind == "rotation" {
			rings[fmt.Sprint(l.Rotation, l.What, l.Key)]++
		}
	}
	mu.Unlock()
	for what, n := range rings {
		if n > 1 {
			t.Errorf("%s came %d times", what, n)
		}
	}
	began := time.Now()
	if err := two.stop(); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took > 4*time.Second {
		t.Errorf("the stop took %s: it waited for who watches", took)
	}
	testkit.Until(t, func() error {
		mu.Lock()
		defer mu.Unlock()
		if !slices.ContainsFunc(seen, func(l api.Line) bool {
			return l.Kind == "replica-silent" && l.Name == two.data.Replica && strings.Contains(l.Text, "is not shown")
		}) {
			return fmt.Errorf("a replica that does not answer is not named: %+v", seen)
		}
		return nil
	})
}
