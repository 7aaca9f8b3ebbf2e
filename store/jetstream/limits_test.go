package jetstream

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/lockstep-tls/lockstep/store"
	"github.com/lockstep-tls/lockstep/test/fleet"
)

// configured runs a NATS server in the process with a configuration as nats-server reads it, and
// returns its host:port.
func configured(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "nats.conf")
	text = "listen: \"127.0.0.1:-1\"\n" + strings.ReplaceAll(text, "STORE", t.TempDir())
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	o, err := server.ProcessConfigFile(path)
	if err != nil {
		t.Fatal(err)
	}
	o.NoLog, o.NoSigs = true, true
	s, err := server.NewServer(o)
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	if !s.ReadyForConnections(10 * time.Second) {
		t.Fatal("the NATS server does not start")
	}
	return s.Addr().String()
}

func at(t *testing.T, url string) Config {
	t.Helper()
	c, err := ParseURL(url)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// words checks that err has them.
func words(t *testing.T, what string, err error, words ...string) {
	t.Helper()
	if err == nil {
		t.Errorf("%s: no error", what)
		return
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%s: %q lacks %q", what, err, w)
		}
	}
}

// refuses checks, beside others, that the store is not opened, and that the error has the words.
func refuses(t *testing.T, url string, with ...string) {
	t.Helper()
	t.Run(strings.Join(with, ", "), func(t *testing.T) {
		t.Parallel()
		s, err := Open(t.Context(), at(t, url))
		if err == nil {
			s.Close()
		}
		words(t, url, err, with...)
	})
}

// used uses a store in each way, more keys than fit into a page among them.
func used(t *testing.T, s *Store) {
	t.Helper()
	const names = pageMessages + 100
	rev := put(t, s, "ring/default", 0, "v")
	rev = put(t, s, "ring/default", rev, "w")
	if val, got, err := s.Get(t.Context(), "ring/default"); err != nil || string(val) != "w" || got != rev {
		t.Errorf("Get = %q, %d, %v", val, got, err)
	}
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := w; i < names; i += 8 {
				if _, err := s.Swap(t.Context(), fmt.Sprintf("cert/%05d", i), 0, []byte("v")); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if _, err := s.Swap(t.Context(), "ring/default", rev, nil); err != nil {
		t.Error(err)
	}
	if _, _, err := s.Get(t.Context(), "ring/default"); !errors.Is(err, store.ErrNotExist) {
		t.Errorf("Get = %v of what was deleted", err)
	}
	if got := keys(t, s, ""); len(got) != names {
		t.Errorf("%d keys of %d", len(got), names)
	}
	if got, _, err := s.Changed(t.Context(), "", 0); err != nil || len(got) != names+1 {
		t.Errorf("Changed = %d keys, %v", len(got), err)
	}
	if _, err := s.Now(t.Context()); err != nil {
		t.Error(err)
	}
}

// raw is JetStream without the store, as an operator has it.
func raw(t *testing.T, url string, options ...nats.Option) jetstream.JetStream {
	t.Helper()
	conn, err := nats.Connect(url, options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	js, err := jetstream.New(conn)
	if err != nil {
		t.Fatal(err)
	}
	return js
}

func TestEachLimitOfAnAccountSaysWhatToSet(t *testing.T) {
	t.Parallel()
	addr := configured(t, `
		jetstream { store_dir: "STORE", max_file: 4G }
		accounts {
			demands: { jetstream { max_file: 512M, max_bytes_required: true }, users: [{user: demands, password: p}] }
			small:   { jetstream { max_file: 512M, max_bytes_required: true, disk_max_stream_bytes: 10M }
			           users: [{user: small, password: p}] }
			one:     { jetstream { max_file: 100M, max_streams: 1 }, users: [{user: one, password: p}] }
			off:     { users: [{user: "off", password: p}] }
		}`)
	password := "?password_file=" + file(t, "password", []byte("p"))
	url := func(user, more string) string { return "nats://" + user + "@" + addr + password + more }

	refuses(t, url("demands", "&replicas=1&bucket=a"), "add max_bytes=64MB")
	refuses(t, url("demands", "&max_bytes=64MB&bucket=b"), "add replicas=1")
	refuses(t, url("demands", "&replicas=1&max_bytes=2GB&bucket=c"), "lower max_bytes", "1 copies of max_bytes=2048MB")
	refuses(t, url("small", "&replicas=1&max_bytes=64MB"), "max_bytes", "lower it")
	refuses(t, url("off", "&replicas=1"), "JetStream is off", "domain=NAME")
	refuses(t, url("one", "&replicas=1&domain=hub"), "the domain hub")
	refuses(t, url("nobody", "&replicas=1"), "password_file=/path")
	if _, err := raw(t, "nats://one:p@"+addr).CreateStream(t.Context(), jetstream.StreamConfig{
		Name: "other", Subjects: []string{"other"}, MaxBytes: 1 << 20,
	}); err != nil {
		t.Fatal(err)
	}
	refuses(t, url("one", "&replicas=1"), "max_streams")

	s := open(t, at(t, url("demands", "&replicas=1&max_bytes=64MB")))
	info, err := s.info(t.Context())
	if err != nil || info.Config.MaxBytes != 64<<20 || info.Config.Discard != jetstream.DiscardNew {
		t.Errorf("the stream is %+v, %v", info.Config, err)
	}
	put(t, s, "a/x", 0, "v")
	open(t, at(t, url("demands", "&replicas=1"))) // what is there is taken
	open(t, at(t, url("demands", "&replicas=1&max_bytes=32MB")))
	refuses(t, url("demands", "&replicas=1&max_bytes=128MB"), "max-bytes is 64MB",
		"max_bytes in the store's URL is 128MB", "nats stream edit "+s.stream()+" --max-bytes=134217728")
}

// fill writes values of 32 KiB until the store refuses one, and returns the others' revisions.
func fill(t *testing.T, s *Store) map[string]store.Rev {
	t.Helper()
	there := map[string]store.Rev{}
	for i := range 1000 {
		key := fmt.Sprintf("cert/%03d", i)
		rev, err := s.Swap(t.Context(), key, 0, make([]byte, 32<<10))
		if err != nil {
			words(t, "Swap", err, key, "was not written", s.stream()+" is full", "nats stream edit", "max_bytes")
			return there
		}
		there[key] = rev
	}
	t.Fatal("the store is never full")
	return nil
}

// kept checks that all that was acknowledged is there.
func kept(t *testing.T, s *Store, there map[string]store.Rev) {
	t.Helper()
	for key, rev := range there {
		if _, got, err := s.Get(t.Context(), key); err != nil || got != rev {
			t.Errorf("%s is at %d, %v, and was written at %d", key, got, err, rev)
		}
	}
	if got := keys(t, s, ""); len(got) != len(there) {
		t.Errorf("%d keys are there of %d", len(got), len(there))
	}
}

// limit sets the stream's limit, as an operator does.
func limit(t *testing.T, s *Store, bytes int64) {
	t.Helper()
	info, err := s.info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	info.Config.MaxBytes = bytes
	if _, err := s.js.UpdateStream(t.Context(), info.Config); err != nil {
		t.Fatal(err)
	}
}

func TestAFullBucketRefusesAndDropsNothing(t *testing.T) {
	t.Parallel()
	full(t, func() Config { return anew([]string{single(t, nil)}, 1) })
}

// full fills a bucket, and has an operator set its limit while it is in use.
func full(t *testing.T, cfg func() Config) {
	c := cfg()
	c.MaxBytes = 1 << 20
	s := open(t, c)
	there := fill(t, s)
	if len(there) < 25 {
		t.Errorf("1 MB has room for %d values of 32 KiB", len(there))
	}
	kept(t, s, there)
	if _, err := s.Swap(t.Context(), "cert/000", there["cert/000"], nil); err == nil {
		delete(there, "cert/000") // a delete makes room, where it is taken
	} else {
		words(t, "a delete", err, "is full")
		t.Log("a delete is refused, too")
	}
	again := open(t, c) // a restart
	kept(t, again, there)
	limit(t, s, 2<<20)
	key := "cert/more"
	there[key] = put(t, s, key, 0, "v")
	kept(t, again, there)

	live := open(t, cfg())
	there = map[string]store.Rev{}
	for i := range 60 {
		key := fmt.Sprintf("cert/%03d", i)
		there[key] = put(t, live, key, 0, strings.Repeat("v", 32<<10))
	}
	limit(t, live, 1<<20) // less than what is there
	kept(t, live, there)
	_, err := live.Swap(t.Context(), "cert/none", 0, []byte("v"))
	words(t, "Swap", err, "is full")
	if live.drops.Load() {
		t.Error("it says that records are dropped")
	}
	kept(t, live, there)
	limit(t, live, 64<<20)
	put(t, live, "cert/none", 0, "v")
}

// A stream of an earlier version has no limit, and would drop records as soon as it had one.
func TestAStreamOfAnEarlierVersionIsMadeToRefuse(t *testing.T) {
	t.Parallel()
	url := single(t, nil)
	js := raw(t, url)
	for _, given := range []struct {
		bucket, description string
		taken               bool
	}{
		{"earlier", "the store of Lockstep: one message a key", true},
		{"by-hand", "of somebody else, without a limit", false},
	} {
		s := &Store{bucket: given.bucket, replicas: 1, prefix: "lockstep.store." + given.bucket + "."}
		cfg := s.config(1_700_000_000_000_000)
		cfg.Discard, cfg.Description = jetstream.DiscardOld, given.description
		if _, err := js.CreateStream(t.Context(), cfg); err != nil {
			t.Fatal(err)
		}
		time.Sleep(settle)
		s = open(t, Config{Servers: []string{url}, Bucket: given.bucket, Replicas: 1})
		info, err := s.info(t.Context())
		if err != nil || (info.Config.Discard == jetstream.DiscardNew) != given.taken {
			t.Errorf("%s: the stream is %+v, %v", given.bucket, info.Config, err)
		}
		first := put(t, s, "a/first", 0, strings.Repeat("v", 600<<10))
		put(t, s, "a/second", 0, strings.Repeat("v", 600<<10))
		limit(t, s, 1<<20)
		if given.taken {
			if _, rev, err := s.Get(t.Context(), "a/first"); err != nil || rev != first {
				t.Errorf("%s: a limit has dropped a record: %d, %v", given.bucket, rev, err)
			}
		}
		if _, err := s.info(t.Context()); err != nil || s.drops.Load() == given.taken {
			t.Errorf("%s: it says that records are dropped: %v, %v", given.bucket, s.drops.Load(), err)
		}
		if !given.taken {
			_, err := Open(t.Context(), Config{Servers: []string{url}, Bucket: given.bucket, Replicas: 1})
			words(t, given.bucket, err, "dropped when it is full", "--discard=new")
		}
	}
}

func TestAStreamMadeByHandIsTakenIfItsLimitsAreEnough(t *testing.T) {
	t.Parallel()
	url := single(t, nil)
	js := raw(t, url)
	for i, c := range []struct {
		what     string
		change   func(*jetstream.StreamConfig)
		maxBytes int64
		with     []string // of the refusal; none: it is taken
	}{
		{"no limit", func(c *jetstream.StreamConfig) {}, 0, nil},
		{"64 MB", func(c *jetstream.StreamConfig) { c.MaxBytes = 64 << 20 }, 0, nil},
		{"64 MB are asked for", func(c *jetstream.StreamConfig) { c.MaxBytes = 64 << 20 }, 64 << 20, nil},
		{"no limit, 64 MB are asked for", func(c *jetstream.StreamConfig) {}, 64 << 20, nil},
		{"many", func(c *jetstream.StreamConfig) { c.MaxMsgs = 1_000_000; c.MaxMsgSize = 2 << 20 }, 0, nil},
		{"purge and delete are allowed", func(c *jetstream.StreamConfig) {
			c.DenyDelete, c.DenyPurge = false, false
		}, 0, nil},
		{"wider subjects", func(c *jetstream.StreamConfig) {
			c.Subjects = []string{"lockstep.*." + c.Subjects[0][15:]}
		}, 0, nil},
		{"1 MB", func(c *jetstream.StreamConfig) { c.MaxBytes = 1 << 20 }, 0, []string{"1MB", "--max-bytes=8388608"}},
		{"more is asked for", func(c *jetstream.StreamConfig) { c.MaxBytes = 64 << 20 }, 65 << 20,
			[]string{"max_bytes in the store's URL is 65MB", "--max-bytes=68157440"}},
		{"it drops", func(c *jetstream.StreamConfig) { c.MaxBytes, c.Discard = 64<<20, jetstream.DiscardOld }, 0,
			[]string{"dropped when it is full", "--discard=new"}},
		{"few", func(c *jetstream.StreamConfig) { c.MaxMsgs = 100 }, 0, []string{"--max-msgs=-1"}},
		{"small", func(c *jetstream.StreamConfig) { c.MaxMsgSize = 10_000 }, 0, []string{"--max-msg-size=-1"}},
		{"age", func(c *jetstream.StreamConfig) { c.MaxAge = time.Hour }, 0, []string{"after 1h0m0s", "--max-age=0"}},
		{"history", func(c *jetstream.StreamConfig) { c.MaxMsgsPerSubject = 5 }, 0,
			[]string{"--max-msgs-per-subject=1"}},
		{"no change", func(c *jetstream.StreamConfig) { c.DiscardNewPerSubject = true }, 0,
			[]string{"--no-discard-per-subject"}},
		{"not direct", func(c *jetstream.StreamConfig) { c.AllowDirect = false }, 0, []string{"--allow-direct"}},
		{"memory", func(c *jetstream.StreamConfig) { c.Storage = jetstream.MemoryStorage }, 0,
			[]string{"kept in memory", "another bucket"}},
		{"queue", func(c *jetstream.StreamConfig) { c.Retention = jetstream.WorkQueuePolicy }, 0,
			[]string{"retention", "another bucket"}},
		{"narrow subjects", func(c *jetstream.StreamConfig) {
			c.Subjects = []string{strings.Replace(c.Subjects[0], ">", "ring.>", 1)}
		}, 0, []string{"--subjects='lockstep.store."}},
		{"another name", func(c *jetstream.StreamConfig) { c.Name = "certs" }, 0, []string{"nats stream add hand-"}},
		{"no first sequence", func(c *jetstream.StreamConfig) { c.FirstSeq = 0 }, 0, []string{"--first-sequence="}},
		{"several", func(c *jetstream.StreamConfig) { c.MaxBytes, c.MaxMsgs, c.MaxAge = 1<<20, 5, time.Hour }, 0,
			[]string{"--max-bytes=8388608", "--max-msgs=-1", "--max-age=0"}},
	} {
		t.Run(c.what, func(t *testing.T) {
			t.Parallel()
			bucket := fmt.Sprintf("hand-%d", i)
			hand := &Store{bucket: bucket, replicas: 1, prefix: "lockstep.store." + bucket + "."}
			made := hand.config(1_700_000_000_000_000)
			made.Description = "by hand"
			c.change(&made)
			if _, err := js.CreateStream(t.Context(), made); err != nil {
				t.Fatal(err)
			}
			s, err := Open(t.Context(), Config{
				Servers: []string{url}, Bucket: bucket, Replicas: 1, MaxBytes: c.maxBytes,
			})
			if err == nil {
				defer s.Close()
			}
			if len(c.with) > 0 {
				words(t, c.what, err, append(c.with, made.Name)...)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			put(t, s, "ring/default", 0, "v")
		})
	}
}

func TestAUserWithAnInboxOfHisOwn(t *testing.T) {
	t.Parallel()
	addr := configured(t, `
		jetstream { store_dir: "STORE" }
		authorization { users: [
			{ user: own, password: p, permissions { subscribe: "_INBOX_me.>", publish: ["$JS.API.>", "lockstep.store.>"] } }
			{ user: less, password: p, permissions { subscribe: "_INBOX_me.>", publish: [
				"$JS.API.STREAM.NAMES", "$JS.API.STREAM.INFO.*", "$JS.API.STREAM.MSG.GET.*", "$JS.API.DIRECT.GET.>" ] } }
			{ user: none, password: p, permissions { subscribe: "_INBOX_me.>", publish: "x" } }
		] }`)
	password := "?replicas=1&password_file=" + file(t, "password", []byte("p"))
	url := func(user, more string) string { return "nats://" + user + "@" + addr + password + more }
	refuses(t, url("own", ""), "listen to _INBOX.", "set inbox_prefix")
	refuses(t, url("own", "&inbox_prefix=_INBOX_you"), "listen to _INBOX_you.", "inbox_prefix=_INBOX_me")
	refuses(t, url("less", "&inbox_prefix=_INBOX_me"), "make the bucket", "$JS.API.STREAM.CREATE.lockstep-",
		"nats stream add lockstep-")
	refuses(t, url("none", "&inbox_prefix=_INBOX_me"), "publish to $JS.API.STREAM.NAMES", "$JS.API.>",
		"lockstep.store.lockstep.>")
	used(t, open(t, at(t, url("own", "&bucket=b&inbox_prefix=_INBOX_me"))))
	reader := at(t, url("less", "&bucket=b&inbox_prefix=_INBOX_me"))
	s := open(t, reader)
	_, err := s.Swap(t.Context(), "a/x", 0, []byte("v"))
	words(t, "Swap", err, "publish to lockstep.store.b.a.x", "allow it")
}

// A leaf node without JetStream of its own, or with another one, reaches the domain of its hub.
func TestADomainOfJetStreamIsReachedThroughALeafNode(t *testing.T) {
	t.Parallel()
	leafs := port(t)
	hub := configured(t, fmt.Sprintf(`
		server_name: hub
		jetstream { store_dir: "STORE", domain: hub }
		leafnodes { listen: "127.0.0.1:%d" }`, leafs))
	configs := map[string]string{
		"without": fmt.Sprintf(`server_name: edge, leafnodes { remotes: [{url: "nats-leaf://127.0.0.1:%d"}] }`, leafs),
		"with another": fmt.Sprintf(`
			server_name: other
			jetstream { store_dir: "STORE", domain: other }
			leafnodes { remotes: [{url: "nats-leaf://127.0.0.1:%d"}] }`, leafs),
	}
	for what, text := range configs {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			leaf := configured(t, text)
			within(t, 10*time.Second, func() error {
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				conn, err := nats.Connect("nats://" + leaf)
				if err != nil {
					return err
				}
				defer conn.Close()
				_, err = conn.RequestWithContext(ctx, "$JS.hub.API.INFO", nil)
				return err
			})
			c := anew([]string{"nats://" + leaf}, 1)
			c.Domain = "hub"
			s := open(t, c)
			used(t, s)
			rev := put(t, s, "a/x", 0, "v")
			c.Servers, c.Domain = []string{"nats://" + hub}, ""
			if _, got, err := open(t, c).Get(t.Context(), "a/x"); err != nil || got != rev {
				t.Errorf("the hub has it at %d, %v, want %d", got, err, rev)
			}
			refuses(t, "nats://"+leaf+"?replicas=1&domain=nowhere", "the domain nowhere")
			if what == "without" {
				refuses(t, "nats://"+leaf+"?replicas=1", "domain=NAME")
			} else if _, _, err := open(t, anew([]string{"nats://" + leaf}, 1)).Get(t.Context(),
				"a/x"); !errors.Is(err, store.ErrNotExist) {
				t.Errorf("Get = %v of the leaf's own JetStream", err)
			}
		})
	}
}

func port(t *testing.T) int {
	t.Helper()
	p, err := fleet.Port()
	if err != nil {
		t.Fatal(err)
	}
	return p
}
