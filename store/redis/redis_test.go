package redis

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/lockstep-tls/lockstep/store"
	"github.com/lockstep-tls/lockstep/store/storetest"
	"github.com/lockstep-tls/lockstep/test/fleet"
)

func TestMain(m *testing.M) {
	// A pool whose server was away looks for it once a second, and sees only then that it was
	// closed.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/redis/go-redis/v9/internal/pool.(*ConnPool).tryDial"))
}

// server runs one redis-server.
func server(t *testing.T, lines ...string) *fleet.RedisServer {
	t.Helper()
	r, err := fleet.ForTest(t).Redis(limited(t), "redis", lines...)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// limited is a context for what takes seconds at most.
func limited(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func open(t *testing.T, cfg Config) *Store {
	t.Helper()
	s, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

var prefixes atomic.Int32

// anew has a prefix of its own.
func anew(c Config) Config {
	c.Prefix = fmt.Sprintf("test-%d", prefixes.Add(1))
	return c
}

func at(t *testing.T, url string) Config {
	t.Helper()
	c, err := ParseURL(url)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func put(t *testing.T, s *Store, key string, old store.Rev, val string) store.Rev {
	t.Helper()
	rev, err := s.Swap(t.Context(), key, old, []byte(val))
	if err != nil {
		t.Fatalf("Swap(%q): %v", key, err)
	}
	return rev
}

func do(t *testing.T, r *fleet.RedisServer, command string, more ...any) string {
	t.Helper()
	var args []any
	for _, word := range strings.Fields(command) {
		args = append(args, word)
	}
	v, err := r.Do(limited(t), append(args, more...)...)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint(v)
}

// all lists all keys under prefix.
func all(t *testing.T, s *Store, prefix string) []string {
	t.Helper()
	var got []string
	for key, err := range s.Keys(t.Context(), prefix) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, key)
	}
	return got
}

// uncertain is for errors that say neither that the key is not there, nor that somebody else was
// first.
func uncertain(err error) bool {
	return err != nil && !errors.Is(err, store.ErrNotExist) && !errors.Is(err, store.ErrConflict)
}

func TestConformanceOnOneServer(t *testing.T) {
	cfg := at(t, "redis://"+server(t).Addr)
	storetest.Run(t, func(t *testing.T) store.Store { return open(t, anew(cfg)) })
}

func TestMicrosecondsAreExactInScores(t *testing.T) {
	r := server(t)
	s := open(t, at(t, "redis://"+r.Addr))
	rev := put(t, s, "a/x", 0, "v")
	if d := time.Since(time.UnixMicro(int64(rev))); d < -time.Second || d > time.Minute {
		t.Errorf("revision %d is not of now", rev)
	}
	if got := do(t, r, "ZSCORE {lockstep}:changes a/x"); got != strconv.FormatUint(uint64(rev), 10) {
		t.Errorf("the index has %s, Swap said %d", got, rev)
	}
	// The last microsecond that fits, and one that does not.
	do(t, r, "HSET {lockstep}:meta rev", 1<<53-3)
	one := put(t, s, "a/x", rev, "w")
	two := put(t, s, "a/y", 0, "w")
	if one != 1<<53-2 || two != 1<<53-1 {
		t.Errorf("revisions %d and %d", one, two)
	}
	if got, head, err := s.Changed(t.Context(), "", one); err != nil ||
		!slices.Equal(got, []string{"a/y"}) || head != two {
		t.Errorf("Changed = %q, %d, %v", got, head, err)
	}
	if _, err := s.Swap(t.Context(), "a/z", 0, []byte("v")); !uncertain(err) {
		t.Errorf("Swap = %v at the end of revisions", err)
	}
}

func TestEveryKeyIsFoundByEachOfItsPrefixes(t *testing.T) {
	s := open(t, at(t, "redis://"+server(t).Addr))
	keys := []string{"", "a", "a/", "a//b", "/", "[", "(", "+", "-", "a\xff", "a\xff\xff", "\xff", "\xff\xffz",
		"cert/=2A.shop.example", "cert/shop.example", "cert/shopx"}
	slices.Sort(keys)
	for i, key := range keys {
		put(t, s, key, 0, fmt.Sprint(i))
	}
	for i, key := range keys {
		if val, _, err := s.Get(t.Context(), key); err != nil || string(val) != fmt.Sprint(i) {
			t.Errorf("Get(%q) = %q, %v, want %d", key, val, err, i)
		}
		for end := range len(key) + 1 {
			var want []string
			for _, k := range keys {
				if strings.HasPrefix(k, key[:end]) {
					want = append(want, k)
				}
			}
			if got := all(t, s, key[:end]); !slices.Equal(got, want) {
				t.Errorf("Keys(%q) = %q, want %q", key[:end], got, want)
			}
			if got, _, err := s.Changed(t.Context(), key[:end], 0); err != nil || !slices.Equal(got, want) {
				t.Errorf("Changed(%q) = %q, %v, want %q", key[:end], got, err, want)
			}
		}
	}
}

func TestARereadCostsWhatChangedAndNotWhatIsStored(t *testing.T) {
	const names = 100_000
	r := server(t, "appendfsync no")
	cfg := at(t, "redis://"+r.Addr)
	writer, reader := open(t, cfg), open(t, cfg)
	var wg sync.WaitGroup
	for w := range 32 {
		wg.Go(func() {
			for i := w; i < names; i += 32 {
				if _, err := writer.Swap(t.Context(),
					fmt.Sprintf("cert/host-%06d.example", i), 0, make([]byte, 100)); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	// calls counts what clients send; what the scripts call is many times that only where they have
	// something to tell.
	calls := func() (n int) {
		for _, line := range strings.Fields(do(t, r, "INFO commandstats")) {
			if stat, ok := strings.CutPrefix(line, "cmdstat_evalsha:calls="); ok {
				n, _ = strconv.Atoi(stat[:strings.IndexByte(stat, ',')])
			}
		}
		return n
	}
	before := calls()
	changed, head, err := reader.Changed(t.Context(), "cert/", 0)
	if err != nil || len(changed) != names {
		t.Fatalf("Changed told %d of %d, %v", len(changed), names, err)
	}
	t.Logf("the first read: %d requests", calls()-before)
	for _, c := range []struct {
		what  string
		write string
		want  int
	}{
		{"quiet", "", 0},
		{"another key", "ring/x", 0},
		{"one of them", "cert/new.example", 1},
	} {
		if c.write != "" {
			put(t, writer, c.write, 0, "v")
		}
		before := calls()
		got, next, err := reader.Changed(t.Context(), "cert/", head)
		if cost := calls() - before; err != nil || len(got) != c.want || cost != 1 {
			t.Errorf("%s: %d keys, %d requests, %v; want %d keys and 1 request", c.what, len(got), cost, err, c.want)
		}
		head = next
	}
	if got := all(t, reader, "cert/"); len(got) != names+1 || !slices.IsSorted(got) {
		t.Errorf("Keys gave %d keys, sorted: %v", len(got), slices.IsSorted(got))
	}
}

func TestScriptsThatRedisForgotAreSentAgain(t *testing.T) {
	r := server(t)
	s := open(t, at(t, "redis://"+r.Addr))
	rev := put(t, s, "a/x", 0, "v")
	do(t, r, "SCRIPT FLUSH SYNC")
	rev = put(t, s, "a/x", rev, "w")
	do(t, r, "SCRIPT FLUSH SYNC")
	if val, got, err := s.Get(t.Context(), "a/x"); err != nil || string(val) != "w" || got != rev {
		t.Errorf("Get = %q, %d, %v", val, got, err)
	}
}
