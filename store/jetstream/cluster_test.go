package jetstream

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lockstep-tls/lockstep/store"
	"github.com/lockstep-tls/lockstep/store/storetest"
	"github.com/lockstep-tls/lockstep/test/fleet"
)

// three is a cluster of real servers, shared by the tests below, each of which leaves it as it
// found it.
type three struct{ *fleet.NATS }

func TestOnACluster(t *testing.T) {
	if testing.Short() {
		t.Skip("three processes that sync every write")
	}
	n, err := fleet.ForTest(t).NATS(t.Context(), "nats", 3)
	if err != nil {
		t.Fatal(err)
	}
	c := three{n}
	for _, test := range []struct {
		name string
		run  func(*testing.T, three)
	}{
		{"conformance", func(t *testing.T, c three) {
			storetest.Run(t, func(t *testing.T) store.Store { return open(t, anew(c.urls(), 3)) })
		}},
		{"many open at once", func(t *testing.T, c three) {
			for range 20 {
				openAtOnce(t, anew(c.urls(), 3))
			}
		}},
		{"a deleted stream is lost until it is made again", func(t *testing.T, c three) {
			cfg := anew(c.urls(), 3)
			lostAndMadeAgain(t, open(t, cfg), open(t, cfg))
		}},
		{"reconnects leave nothing behind", func(t *testing.T, c three) { reconnects(t, open(t, anew(c.urls(), 3))) }},
		{"a full bucket refuses and drops nothing", func(t *testing.T, c three) {
			full(t, func() Config { return anew(c.urls(), 3) })
		}},
		{"a replica that is behind hides nothing", behind},
		{"any one of three is killed", func(t *testing.T, c three) { oneDown(t, c, (*fleet.NATSServer).Kill) }},
		{"any one of three is stopped in order", func(t *testing.T, c three) {
			oneDown(t, c, func(n *fleet.NATSServer) error { return n.Stop(20 * time.Second) })
		}},
		{"the leader is paused", leaderPaused},
		{"a write under way is no conflict", underWay},
		{"two of three are killed, the leader among them", func(t *testing.T, c three) { twoKilled(t, c, true) }},
		{"two of three are killed, the leader is left", func(t *testing.T, c three) { twoKilled(t, c, false) }},
		{"all are restarted", allRestarted},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, c) })
	}
}

func (c three) urls() []string {
	var urls []string
	for _, s := range c.Servers {
		urls = append(urls, "nats://"+s.Client)
	}
	return urls
}

func (c three) ready(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := c.Ready(ctx); err != nil {
		t.Fatal(err)
	}
}

// leader is the server that leads the stream of s.
func (c three) leader(t *testing.T, s *Store) *fleet.NATSServer {
	t.Helper()
	info, err := s.info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(c.Servers, func(n *fleet.NATSServer) bool { return n.Name() == info.Cluster.Leader })
	if i < 0 {
		t.Fatalf("no server is the leader %q", info.Cluster.Leader)
	}
	return c.Servers[i]
}

func do(t *testing.T, f func() error) {
	t.Helper()
	if err := f(); err != nil {
		t.Fatal(err)
	}
}

// within waits until check is content.
func within(t *testing.T, limit time.Duration, check func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	start := time.Now()
	if err := fleet.Until(ctx, check); err != nil {
		t.Fatal(err)
	}
	t.Logf("after %v", time.Since(start).Round(time.Millisecond))
}

// ledger writes to a store all the time, and knows what was acknowledged.
type ledger struct {
	s    *Store
	stop context.CancelFunc
	done sync.WaitGroup

	mu       sync.Mutex
	acked    map[string]int // the newest acknowledged value of each key
	tried    map[string]int // the newest that was sent
	last     store.Rev
	acks     int
	failures int
}

func keep(t *testing.T, s *Store) *ledger {
	ctx, cancel := context.WithCancel(t.Context())
	l := &ledger{s: s, stop: cancel, acked: map[string]int{}, tried: map[string]int{}}
	for w := range 4 {
		l.done.Go(func() {
			for n := 1; ctx.Err() == nil; n++ {
				l.write(t, ctx, fmt.Sprintf("w%d/%d", w, n%10), n)
			}
		})
	}
	t.Cleanup(func() { cancel(); l.done.Wait() })
	return l
}

func (l *ledger) write(t *testing.T, ctx context.Context, key string, n int) {
	val, rev, err := l.s.Get(ctx, key)
	l.mu.Lock()
	had, before := l.acked[key], l.tried[key]
	l.mu.Unlock()
	got, _ := strconv.Atoi(string(val))
	switch {
	case errors.Is(err, store.ErrNotExist) && had == 0:
	case errors.Is(err, store.ErrNotExist), errors.Is(err, store.ErrLost):
		t.Errorf("%s, acknowledged as %d, is said to be gone: %v", key, had, err)
		return
	case err != nil:
		l.failed(ctx, err)
		return
	case got < had || got > before:
		t.Errorf("%s is %d; acknowledged was %d, and sent %d", key, got, had, before)
	}
	l.mu.Lock()
	l.tried[key] = n
	l.mu.Unlock()
	rev, err = l.s.Swap(ctx, key, rev, []byte(strconv.Itoa(n)))
	switch {
	case errors.Is(err, store.ErrConflict): // by the earlier one whose outcome was unknown
	case errors.Is(err, store.ErrNotExist), errors.Is(err, store.ErrLost):
		t.Errorf("Swap(%s) = %v", key, err)
	case err != nil:
		l.failed(ctx, err)
	default:
		l.mu.Lock()
		l.acked[key], l.last = n, max(l.last, rev)
		l.acks++
		l.mu.Unlock()
	}
}

func (l *ledger) failed(ctx context.Context, err error) {
	if ctx.Err() == nil {
		l.mu.Lock()
		l.failures++
		l.mu.Unlock()
	}
}

// goesOn waits for more acknowledged writes.
func (l *ledger) goesOn(t *testing.T, limit time.Duration) {
	t.Helper()
	count := func() int { l.mu.Lock(); defer l.mu.Unlock(); return l.acks }
	from := count()
	within(t, limit, func() error {
		if n := count() - from; n < 20 {
			return fmt.Errorf("%d writes were acknowledged", n)
		}
		return nil
	})
}

// check ends the writing, and finds all that was acknowledged: by Get, by Keys and by Changed.
func (l *ledger) check(t *testing.T) {
	t.Helper()
	l.stop()
	l.done.Wait()
	listed := keys(t, l.s, "w")
	changed, head, err := l.s.Changed(t.Context(), "w", 0)
	if err != nil || head < l.last {
		t.Fatalf("Changed went to %d, %v; acknowledged was %d", head, err, l.last)
	}
	for key, n := range l.acked {
		val, _, err := l.s.Get(t.Context(), key)
		if got, _ := strconv.Atoi(string(val)); err != nil || got < n || got > l.tried[key] {
			t.Errorf("%s = %q, %v; acknowledged was %d, and sent %d", key, val, err, n, l.tried[key])
		}
		if !slices.Contains(listed, key) || !slices.Contains(changed, key) {
			t.Errorf("%s is not listed: %v, or not among the changed: %v",
				key, slices.Contains(listed, key), slices.Contains(changed, key))
		}
	}
	t.Logf("%d writes acknowledged, %d calls failed", l.acks, l.failures)
}

// behind pauses a follower while the others get a write, and then reads by it.
func behind(t *testing.T, c three) {
	cfg := anew(c.urls(), 3)
	all := open(t, cfg)
	leader := c.leader(t, all)
	i := slices.IndexFunc(c.Servers, func(n *fleet.NATSServer) bool { return n != leader })
	follower := c.Servers[i]
	cfg.Servers = []string{"nats://" + leader.Client}
	writer := open(t, cfg)
	big := strings.Repeat("v", 50<<10) // 15 MB a round take the follower a while
	for round := range 5 {
		cfg.Servers = []string{"nats://" + follower.Client}
		reader := open(t, cfg)
		_, head, err := reader.Changed(t.Context(), "", 0)
		if err != nil {
			t.Fatal(err)
		}
		do(t, follower.Pause)
		var want []string
		for i := range 300 {
			key := fmt.Sprintf("a/%d-%03d", round, i)
			put(t, writer, key, 0, big)
			want = append(want, key)
		}
		do(t, follower.Resume)
		changed, _, err := reader.Changed(t.Context(), "a/", head)
		if err != nil || !slices.Equal(changed, want) {
			t.Fatalf("round %d: Changed told %d of %d, %v", round, len(changed), len(want), err)
		}
		if got := keys(t, reader, "a/"+strconv.Itoa(round)); !slices.Equal(got, want) {
			t.Fatalf("round %d: Keys gave %d of %d", round, len(got), len(want))
		}
		reader.Close()
	}
}

func oneDown(t *testing.T, c three, end func(*fleet.NATSServer) error) {
	s := open(t, anew(c.urls(), 3))
	l := keep(t, s)
	for _, server := range c.Servers {
		l.goesOn(t, 20*time.Second)
		do(t, func() error { return end(server) })
		l.goesOn(t, 20*time.Second)
		do(t, server.Restart)
		c.ready(t)
	}
	l.check(t)
}

func leaderPaused(t *testing.T, c three) {
	s := open(t, anew(c.urls(), 3))
	l := keep(t, s)
	l.goesOn(t, 20*time.Second)
	leader := c.leader(t, s)
	do(t, leader.Pause)
	l.goesOn(t, 30*time.Second)
	do(t, leader.Resume)
	l.goesOn(t, 20*time.Second)
	c.ready(t)
	l.check(t)
}

func twoKilled(t *testing.T, c three, withLeader bool) {
	s := open(t, anew(c.urls(), 3))
	rev := put(t, s, "a/x", 0, "v")
	l := keep(t, s)
	l.goesOn(t, 20*time.Second)
	leader := c.leader(t, s)
	victims := slices.DeleteFunc(slices.Clone(c.Servers), func(n *fleet.NATSServer) bool { return n == leader })
	if withLeader {
		victims[0] = leader
	}
	do(t, victims[0].Kill)
	do(t, victims[1].Kill)
	for round := range 3 { // the leader, if it is left, takes 10 s and more to see that it is alone
		calls := []struct {
			what string
			call func(ctx context.Context) error
		}{
			{"Get", func(ctx context.Context) error { _, _, err := s.Get(ctx, "a/x"); return err }},
			{"Swap", func(ctx context.Context) error { _, err := s.Swap(ctx, "a/y", 0, []byte("v")); return err }},
			{"Changed", func(ctx context.Context) error { _, _, err := s.Changed(ctx, "a/", rev); return err }},
			{"Now", func(ctx context.Context) error { _, err := s.Now(ctx); return err }},
			{"Keys", func(ctx context.Context) error { _, err := s.keys(ctx, "a/"); return err }},
			{"Recreate", func(ctx context.Context) error { return s.Recreate(ctx) }},
		}
		var wg sync.WaitGroup
		for _, c := range calls {
			wg.Go(func() {
				limit := patience + time.Second // of its own
				ctx := t.Context()
				if round == 1 {
					limit = 500 * time.Millisecond
					short, cancel := context.WithTimeout(ctx, limit)
					defer cancel()
					ctx, limit = short, limit+300*time.Millisecond
				}
				start := time.Now()
				err := c.call(ctx)
				if took := time.Since(start); took > limit {
					t.Errorf("%s took %v", c.what, took)
				}
				if errors.Is(err, store.ErrNotExist) || errors.Is(err, store.ErrLost) ||
					errors.Is(err, store.ErrConflict) || c.what == "Swap" && err == nil {
					t.Errorf("round %d: %s = %v without a majority", round, c.what, err)
				}
			})
		}
		wg.Wait()
	}
	do(t, victims[0].Restart)
	l.goesOn(t, 30*time.Second)
	do(t, victims[1].Restart)
	c.ready(t)
	l.check(t)
	if val, got, err := s.Get(t.Context(), "a/x"); err != nil || string(val) != "v" || got != rev {
		t.Errorf("Get = %q, %d, %v", val, got, err)
	}
}

func allRestarted(t *testing.T, c three) {
	s := open(t, anew(c.urls(), 3))
	l := keep(t, s)
	for range 2 {
		l.goesOn(t, 20*time.Second)
		for _, server := range c.Servers {
			do(t, server.Kill)
		}
		for _, server := range c.Servers {
			do(t, server.Restart)
		}
		l.goesOn(t, 40*time.Second)
		c.ready(t)
	}
	l.check(t)
}

// underWay holds a write between the leader and the majority. Whoever expects what was there before
// it is told of no conflict: it may come to nothing.
func underWay(t *testing.T, c three) {
	cfg := anew(c.urls(), 3)
	leader := c.leader(t, open(t, cfg))
	cfg.Servers = []string{"nats://" + leader.Client}
	one, two := open(t, cfg), open(t, cfg)
	rev := put(t, one, "a/x", 0, "before")
	var paused []*fleet.NATSServer
	for _, n := range c.Servers {
		if n != leader {
			do(t, n.Pause)
			paused = append(paused, n)
		}
	}
	first := make(chan error, 1)
	go func() {
		_, err := one.Swap(t.Context(), "a/x", rev, []byte("under way"))
		first <- err
	}()
	time.Sleep(200 * time.Millisecond) // it is with the leader
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	_, err := two.Swap(ctx, "a/x", rev, []byte("another"))
	for _, n := range paused {
		do(t, n.Resume)
	}
	if err == nil || errors.Is(err, store.ErrConflict) {
		t.Errorf("while another write was under way: %v", err)
	}
	if err := <-first; err != nil {
		t.Logf("the first write: %v", err)
	}
	c.ready(t)
	within(t, 20*time.Second, func() error {
		val, now, err := two.Get(t.Context(), "a/x")
		if err == nil && (string(val) != "under way" || now == rev) {
			err = fmt.Errorf("%s at %d", val, now)
		}
		return err
	})
	if _, err := two.Swap(t.Context(), "a/x", rev, []byte("another")); !errors.Is(err, store.ErrConflict) {
		t.Errorf("behind a write that is there: %v", err)
	}
}
