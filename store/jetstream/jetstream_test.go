package jetstream

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

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"go.uber.org/goleak"

	"github.com/lockstep-tls/lockstep/store"
	"github.com/lockstep-tls/lockstep/store/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// single runs one NATS server with JetStream in the process, and returns its URL.
func single(t *testing.T, change func(*server.Options)) string {
	t.Helper()
	o := &server.Options{
		Host: "127.0.0.1", Port: server.RANDOM_PORT, NoLog: true, NoSigs: true, JetStream: true, StoreDir: t.TempDir(),
	}
	if change != nil {
		change(o)
	}
	s, err := server.NewServer(o)
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	if !s.ReadyForConnections(10 * time.Second) {
		t.Fatal("the NATS server does not start")
	}
	return s.ClientURL()
}

func open(t *testing.T, cfg Config) *Store {
	t.Helper()
	s, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

var buckets atomic.Int32

// anew is a configuration for a store of its own on the servers.
func anew(servers []string, replicas int) Config {
	return Config{Servers: servers, Replicas: replicas, Bucket: fmt.Sprintf("test_%d", buckets.Add(1))}
}

func put(t *testing.T, s *Store, key string, old store.Rev, val string) store.Rev {
	t.Helper()
	rev, err := s.Swap(t.Context(), key, old, []byte(val))
	if err != nil {
		t.Fatalf("Swap(%q): %v", key, err)
	}
	return rev
}

// keys lists all keys under prefix.
func keys(t *testing.T, s *Store, prefix string) []string {
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

func TestConformanceOnOneServer(t *testing.T) {
	url := single(t, nil)
	storetest.Run(t, func(t *testing.T) store.Store { return open(t, anew([]string{url}, 1)) })
}

func TestEveryKeyHasASubjectAndIsFoundByEachOfItsPrefixes(t *testing.T) {
	s := open(t, anew([]string{single(t, nil)}, 1))
	all := []string{"a", "a/", "a//b", "/", "//", ".", "..", "a.b", "a/b", "a/.b", "a.", "=2A",
		"cert/=2A.shop.example", "cert/shop.example", "cert/shopx"}
	for i, key := range all {
		put(t, s, key, 0, fmt.Sprint(i))
	}
	for i, key := range all {
		if val, _, err := s.Get(t.Context(), key); err != nil || string(val) != fmt.Sprint(i) {
			t.Errorf("Get(%q) = %q, %v, want %d", key, val, err, i)
		}
		for end := range len(key) + 1 {
			if !slices.Contains(keys(t, s, key[:end]), key) {
				t.Errorf("Keys(%q) lacks %q", key[:end], key)
			}
			if changed, _, err := s.Changed(t.Context(), key[:end], 0); err != nil || !slices.Contains(changed, key) {
				t.Errorf("Changed(%q) = %q, %v, lacks %q", key[:end], changed, err, key)
			}
		}
	}
	for _, key := range []string{"", "a b", "a*", "a>", "ä", "%", string(make([]byte, 10))} {
		if _, err := s.Swap(t.Context(), key, 0, []byte("v")); err == nil || errors.Is(err, store.ErrConflict) {
			t.Errorf("Swap(%q) = %v, want a refusal", key, err)
		}
		if _, _, err := s.Get(t.Context(), key); err == nil || errors.Is(err, store.ErrNotExist) {
			t.Errorf("Get(%q) = %v, want a refusal", key, err)
		}
	}
}

// The keys of the suite are few; here they are more than a page of messages and of bytes, and two
// replicas look.
func TestARereadCostsWhatChangedAndNotWhatIsStored(t *testing.T) {
	const names = 20_000
	cfg := anew([]string{single(t, func(o *server.Options) { o.SyncInterval = time.Hour })}, 1)
	writer, reader := open(t, cfg), open(t, cfg)
	var wg sync.WaitGroup
	for w := range 32 {
		wg.Go(func() {
			for i := w; i < names; i += 32 {
				if _, err := writer.Swap(t.Context(),
					fmt.Sprintf("cert/host-%05d.example", i), 0, make([]byte, 500)); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	requests := func() uint64 { return reader.conn.Stats().OutMsgs }
	before := requests()
	changed, head, err := reader.Changed(t.Context(), "cert/", 0)
	if err != nil || len(changed) != names {
		t.Fatalf("Changed told %d of %d, %v", len(changed), names, err)
	}
	t.Logf("the first read: %d requests", requests()-before)
	for _, c := range []struct {
		what   string
		write  string
		prefix string
		want   int
		most   uint64
	}{
		{"quiet", "", "cert/", 0, 1},
		{"the store's end only", "", "cert/ ", 0, 1},
		{"another key", "ring/x", "cert/", 0, 3},
		{"one of them", "cert/new.example", "cert/", 1, 3},
	} {
		if c.write != "" {
			put(t, writer, c.write, 0, "v")
		}
		before := requests()
		got, next, err := reader.Changed(t.Context(), c.prefix, head)
		cost := requests() - before
		if err != nil || len(got) != c.want || cost > c.most {
			t.Errorf("%s: %d keys, %d requests, %v; want %d keys and at most %d requests",
				c.what, len(got), cost, err, c.want, c.most)
		}
		head = next
	}
	before = requests()
	if got := keys(t, reader, "cert/"); len(got) != names+1 || !slices.IsSorted(got) {
		t.Errorf("Keys gave %d keys, sorted: %v", len(got), slices.IsSorted(got))
	}
	t.Logf("all keys: %d requests", requests()-before)
}

func TestReconnectsLeaveNothingBehind(t *testing.T) {
	reconnects(t, open(t, anew([]string{single(t, nil)}, 1)))
}

func reconnects(t *testing.T, s *Store) {
	r := put(t, s, "a/x", 0, "v")
	for range 100 {
		if err := s.conn.ForceReconnect(); err != nil {
			t.Fatal(err)
		}
		if changed, _, err := s.Changed(t.Context(), "a/", 0); err != nil || len(changed) != 1 {
			t.Fatalf("Changed = %q, %v", changed, err)
		}
		keys(t, s, "")
		r = put(t, s, "a/x", r, "v")
	}
	info, err := s.info(t.Context())
	if err != nil || info.State.Consumers != 0 || s.conn.Stats().Reconnects != 100 {
		t.Fatalf("%d consumers after %d reconnects, %v; want none",
			info.State.Consumers, s.conn.Stats().Reconnects, err)
	}
	if n := s.conn.NumSubscriptions(); n > 1 { // that of all answers
		t.Errorf("%d subscriptions are left", n)
	}
}

func TestADeletedStreamIsLostUntilItIsMadeAgain(t *testing.T) {
	url := single(t, nil)
	cfg := anew([]string{url}, 1)
	one, two := open(t, cfg), open(t, cfg)
	lostAndMadeAgain(t, one, two)
}

// lostAndMadeAgain deletes the stream of two replicas' store.
func lostAndMadeAgain(t *testing.T, one, two *Store) {
	ctx := t.Context()
	var last store.Rev
	for i := range 20 {
		last = put(t, one, fmt.Sprintf("a/%d", i), 0, "v")
	}
	if err := one.Recreate(ctx); err != nil {
		t.Fatal(err)
	}
	if got := keys(t, one, ""); len(got) != 20 {
		t.Fatalf("Recreate of a store that is there left %q", got)
	}
	if err := one.js.DeleteStream(ctx, one.stream()); err != nil {
		t.Fatal(err)
	}
	lost := func(s *Store) {
		t.Helper()
		check := func(what string, err error) {
			t.Helper()
			if !errors.Is(err, store.ErrLost) ||
				errors.Is(err, store.ErrNotExist) || errors.Is(err, store.ErrConflict) {
				t.Errorf("%s = %v, want ErrLost", what, err)
			}
		}
		_, _, err := s.Get(ctx, "a/1")
		check("Get", err)
		_, err = s.Swap(ctx, "a/1", 0, []byte("w"))
		check("Swap", err)
		_, err = s.Swap(ctx, "a/none", 0, nil)
		check("Swap of nothing", err)
		_, _, err = s.Changed(ctx, "a/", last)
		check("Changed", err)
		_, err = s.Now(ctx)
		check("Now", err)
		for _, err := range s.Keys(ctx, "a/") {
			check("Keys", err)
		}
	}
	lost(one)
	lost(two)
	var wg sync.WaitGroup
	for _, s := range []*Store{one, one} { // at once
		wg.Go(func() {
			if err := s.Recreate(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if _, _, err := one.Get(ctx, "a/1"); !errors.Is(err, store.ErrNotExist) {
		t.Errorf("Get = %v in an empty store", err)
	}
	if changed, head, err := one.Changed(ctx, "", last); err != nil || len(changed) != 0 || head < last {
		t.Errorf("Changed = %q, %d, %v in an empty store", changed, head, err)
	}
	next := put(t, one, "a/1", 0, "new")
	if next <= last {
		t.Errorf("revision %d after %d", next, last)
	}
	lost(two) // it is there again, but not what this one saw
	if err := two.Recreate(ctx); err != nil {
		t.Fatal(err)
	}
	if val, rev, err := two.Get(ctx, "a/1"); err != nil || string(val) != "new" || rev != next {
		t.Errorf("Get = %q, %d, %v, want what the other wrote", val, rev, err)
	}
	if changed, _, err := two.Changed(ctx, "", last); err != nil || len(changed) != 1 {
		t.Errorf("Changed = %q, %v, want what the other wrote", changed, err)
	}
}

func TestManyOpenAtOnceAndHaveOneStore(t *testing.T) {
	openAtOnce(t, anew([]string{single(t, nil)}, 1))
}

func openAtOnce(t *testing.T, cfg Config) {
	stores := make([]*Store, 8)
	var wg sync.WaitGroup
	for i := range stores {
		wg.Go(func() {
			var err error
			if stores[i], err = Open(t.Context(), cfg); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for _, s := range stores {
		if s == nil {
			continue
		}
		if stores[0] != nil && s.stream() != stores[0].stream() {
			t.Errorf("one has %s, another %s", s.stream(), stores[0].stream())
		}
		s.Close()
	}
}

func TestWhatIsNotOurStreamIsRefused(t *testing.T) {
	url := single(t, nil)
	s := open(t, anew([]string{url}, 1))
	cfg := anew([]string{url}, 1)
	foreign := s.config(5)
	foreign.Name, foreign.Subjects = "foreign", []string{"lockstep.store." + cfg.Bucket + ".>"}
	if _, err := s.js.CreateStream(t.Context(), foreign); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), cfg); !errors.Is(err, errForeign) {
		t.Errorf("Open = %v, with another stream on the subjects", err)
	}
	cfg.Bucket, cfg.Replicas = s.bucket, 3
	if _, err := Open(t.Context(), cfg); !errors.Is(err, errForeign) {
		t.Errorf("Open = %v, with fewer replicas than asked for", err)
	}
	stream, err := s.js.Stream(t.Context(), s.stream())
	if err != nil {
		t.Fatal(err)
	}
	put(t, s, "a/x", 0, "v")
	if err := stream.Purge(t.Context()); err == nil { // it would look as if all was never there
		t.Error("the stream was purged")
	}
}

func TestAServerThatIsBehindWhatWasSeenIsNotBelieved(t *testing.T) {
	s := open(t, anew([]string{single(t, nil)}, 1))
	rev := put(t, s, "a/x", 0, "v")
	if changed, head, err := s.Changed(t.Context(), "", rev+2); err == nil {
		t.Errorf("Changed = %q, %d since a revision that the server does not know", changed, head)
	}
}

// A leader that has been cut off gives what was there before: it is asked again until the real one
// answers.
func TestAValueOlderThanWhatWasSeenIsNotBelieved(t *testing.T) {
	s := open(t, anew([]string{single(t, nil)}, 1))
	rev := put(t, s, "a/x", 0, "v")
	subject, err := s.subject("a/x")
	if err != nil {
		t.Fatal(err)
	}
	// as if the next one had been acknowledged
	s.newest.note(place{s.stream(), subject}, sequence(rev)+1)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if val, got, err := s.Get(ctx, "a/x"); !errors.Is(err, context.DeadlineExceeded) ||
		!strings.Contains(err.Error(), "from the past") {
		t.Errorf("Get = %q, %d, %v", val, got, err)
	}
	go func() {
		time.Sleep(200 * time.Millisecond)
		s.js.Publish(context.Background(), subject, []byte("w")) // the real leader
	}()
	if val, _, err := s.Get(t.Context(), "a/x"); err != nil || string(val) != "w" {
		t.Errorf("Get = %q, %v", val, err)
	}
}

func TestWhatIsNewestIsRememberedForALimitedNumberOfKeys(t *testing.T) {
	var n newest
	at := func(subject string) place { return place{"stream", subject} }
	n.note(at("first"), 7)
	for i := range youngMost - 1 {
		n.note(at(strconv.Itoa(i)), 1)
	}
	n.note(at("first"), 5) // late word of an older one
	if got := n.of(at("first")); got != 7 {
		t.Errorf("first is at %d", got)
	}
	if got := n.of(place{"another", "first"}); got != 0 {
		t.Errorf("another stream's first is at %d", got)
	}
	for i := range 3 * youngMost {
		n.note(at("x"+strconv.Itoa(i)), 1)
	}
	if got := n.of(at("first")); got != 0 || len(n.young)+len(n.old) > 2*youngMost {
		t.Errorf("first is at %d, %d are remembered", got, len(n.young)+len(n.old))
	}
}

func TestAValueThatDoesNotFitSaysSo(t *testing.T) {
	s := open(t, anew([]string{single(t, nil)}, 1))
	if _, err := s.Swap(t.Context(), "a/x", 0, make([]byte, 2<<20)); !errors.Is(err, nats.ErrMaxPayload) {
		t.Errorf("Swap = %v", err)
	}
}

func TestNothingIsLostInAContextThatEnds(t *testing.T) {
	s := open(t, anew([]string{single(t, nil)}, 1))
	ctx, cancel := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
	defer cancel()
	if err := s.Recreate(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Recreate = %v, want the context's error", err)
	}
}
