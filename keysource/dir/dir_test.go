package dir

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/keysource/internal/testca"
	"github.com/lockstep-tls/lockstep/keysource/layout"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// bench is a running Dir and what it told.
type bench struct {
	*Dir
	t    testing.TB
	ca   testca.CA
	logs *syncBuffer
	done chan error
	stop context.CancelFunc

	mu   sync.Mutex
	told []keysource.Name
}

// start runs a Dir on root. Without inotify it may live in a synctest bubble.
func start(t testing.TB, root string, inotify bool, change ...func(*Config)) *bench {
	b := launch(t, root, inotify, change...)
	<-b.Ready()
	return b
}

func launch(t testing.TB, root string, inotify bool, change ...func(*Config)) *bench {
	b := newBench(t, root, change...)
	if !inotify {
		b.open = func() (*watcher, error) { return nil, errors.New("none in this test") }
	}
	b.run()
	return b
}

func newBench(t testing.TB, root string, change ...func(*Config)) *bench {
	b := &bench{t: t, ca: testca.New(t), logs: &syncBuffer{}, done: make(chan error, 1)}
	c := Config{
		Dir: root, AcceptLoss: "lockstep cert rm --confirm", Log: slog.New(slog.NewTextHandler(b.logs, nil)),
		Changed: func(names []keysource.Name) {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.told = append(b.told, names...)
		},
	}
	for _, f := range change {
		f(&c)
	}
	b.Dir = New(c)
	return b
}

func (b *bench) run() {
	ctx, stop := context.WithCancel(b.t.Context())
	b.stop = func() {
		stop()
		if err, ok := <-b.done; ok && err != nil {
			b.t.Errorf("Run: %v", err)
		}
	}
	b.t.Cleanup(b.stop)
	go func() { defer close(b.done); b.done <- b.Run(ctx) }()
}

// news returns the names told since the last call.
func (b *bench) news() []keysource.Name {
	b.mu.Lock()
	defer b.mu.Unlock()
	told := slices.Compact(slices.Sorted(slices.Values(b.told)))
	b.told = nil
	return told
}

func (b *bench) wants(n keysource.Name, version string) {
	b.t.Helper()
	c, err := b.Certificate(b.t.Context(), n)
	if err != nil || c.Version() != version {
		b.t.Fatalf("%s: got %v, %v; want %s", n, c, err, version)
	}
}

// fails wants an error with words, and one that does not say "does not exist".
func (b *bench) fails(n keysource.Name, words string) {
	b.t.Helper()
	c, err := b.Certificate(b.t.Context(), n)
	if err == nil || errors.Is(err, keysource.ErrNotExist) || !strings.Contains(err.Error(), words) {
		b.t.Fatalf("%s: got %v, %v; want an error with %q", n, c, err, words)
	}
}

func (b *bench) absent(names ...keysource.Name) {
	b.t.Helper()
	for _, n := range names {
		if c, err := b.Certificate(b.t.Context(), n); !errors.Is(err, keysource.ErrNotExist) {
			b.t.Fatalf("%s: got %v, %v; want ErrNotExist", n, c, err)
		}
	}
}

func (b *bench) entry(n keysource.Name) Entry {
	b.t.Helper()
	for _, e := range b.List() {
		if e.Name == n {
			return e
		}
	}
	b.t.Fatalf("%s is not in the list %+v", n, b.List())
	return Entry{}
}

var writes atomic.Int64

// replace writes a file as careful tools do: another file, renamed into place. Each gets a time of
// its own, in the past.
func replace(t testing.TB, path string, content []byte) {
	t.Helper()
	check(t, os.MkdirAll(filepath.Dir(path), 0o755))
	tmp := filepath.Join(filepath.Dir(path), ".tmp")
	check(t, os.WriteFile(tmp, content, 0o600))
	at := time.Unix(1_600_000_000+writes.Add(1), 0)
	check(t, os.Chtimes(tmp, at, at))
	check(t, os.Rename(tmp, path))
}

// put issues a certificate into the folder of n and returns its version.
func put(t testing.TB, ca testca.CA, root string, n keysource.Name) string {
	t.Helper()
	chain, key := ca.Issue(t, string(n))
	return putPEM(t, filepath.Join(root, layout.Folder(n)), chain, key)
}

func putPEM(t testing.TB, folder string, chain, key []byte) string {
	t.Helper()
	replace(t, filepath.Join(folder, crtFile), chain)
	replace(t, filepath.Join(folder, keyFile), key)
	return version(t, chain, key)
}

func version(t testing.TB, chain, key []byte) string {
	t.Helper()
	c, err := keysource.ParseCertificate(keysource.PEM{Chain: chain, Key: key}, time.Time{})
	check(t, err)
	return c.Version()
}

func names(n int) (out []keysource.Name) {
	for i := range n {
		out = append(out, keysource.Name(fmt.Sprintf("h%03d.example", i)))
	}
	return out
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func TestRescanAloneFindsEverything(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		root, ca := t.TempDir(), testca.New(t)
		v := put(t, ca, root, "shop.example")
		w := put(t, ca, root, "*.shop.example")
		b := start(t, root, false)
		b.wants("shop.example", v)
		b.wants("*.shop.example", w)
		synctest.Wait()
		b.absent("new.example", "a.shop.example")
		b.news()

		v2 := put(t, ca, root, "shop.example")
		n := put(t, ca, root, "new.example")
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if got := b.news(); !slices.Equal(got, []keysource.Name{"new.example", "shop.example"}) {
			t.Errorf("told %v", got)
		}
		b.wants("shop.example", v2)
		b.wants("new.example", n)
		synctest.Wait()

		check(t, os.RemoveAll(filepath.Join(root, "shop.example")))
		time.Sleep(5 * time.Second) // seen to be missing, and not believed yet
		synctest.Wait()
		b.wants("shop.example", v2)
		if got := b.news(); len(got) > 0 {
			t.Errorf("told %v", got)
		}
		time.Sleep(secondLook)
		synctest.Wait()
		if got := b.news(); !slices.Equal(got, []keysource.Name{"shop.example"}) {
			t.Errorf("told %v", got)
		}
		b.absent("shop.example")

		time.Sleep(time.Hour)
		synctest.Wait()
		if got := b.news(); len(got) > 0 {
			t.Errorf("told %v without need", got)
		}
	})
}

func TestAFolderThatIsSwappedIsNeverGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		root, ca := t.TempDir(), testca.New(t)
		v := put(t, ca, root, "shop.example")
		b := start(t, root, false)
		b.wants("shop.example", v)
		synctest.Wait()
		b.news()
		folder := filepath.Join(root, "shop.example")
		check(t, os.Rename(folder, filepath.Join(root, ".old")))
		time.Sleep(5*time.Second + secondLook/2)
		synctest.Wait() // a scan fell between the two renames
		b.wants("shop.example", v)
		v2 := put(t, ca, root, "shop.example")
		time.Sleep(secondLook)
		synctest.Wait()
		b.wants("shop.example", v2)
		if strings.Contains(b.logs.String(), "removed") {
			t.Error(b.logs)
		}
	})
}

func TestNothingIsAbsentBeforeTheFirstScan(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		known := &fakeKnown{loadErr: errors.New("store is down")}
		b := launch(t, t.TempDir(), false, func(c *Config) { c.Known = known })
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if _, err := b.Certificate(ctx, "shop.example"); !errors.Is(err, context.DeadlineExceeded) ||
			errors.Is(err, keysource.ErrNotExist) {
			t.Fatalf("got %v", err)
		}
		known.set(nil, nil)
		<-b.Ready()
		b.absent("shop.example")
		if !strings.Contains(b.logs.String(), "store is down") {
			t.Error("nobody was told why")
		}
	})
}

func TestTwoFilesAreReplacedOneAfterTheOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		root, ca := t.TempDir(), testca.New(t)
		v := put(t, ca, root, "shop.example")
		b := start(t, root, false)
		b.wants("shop.example", v)

		time.Sleep(2 * secondLook) // what the start set off is over
		synctest.Wait()
		chain, key := ca.Issue(t, "shop.example")
		folder := filepath.Join(root, "shop.example")
		replace(t, filepath.Join(folder, crtFile), chain)
		time.Sleep(5*time.Second - 2*secondLook + secondLook/2) // a look in between
		synctest.Wait()
		b.wants("shop.example", v)
		if e := b.entry("shop.example"); e.Problem != "" || e.Version != v {
			t.Errorf("between the two files: %+v", e)
		}
		replace(t, filepath.Join(folder, keyFile), key)
		b.news()
		time.Sleep(secondLook)
		synctest.Wait()
		b.wants("shop.example", version(t, chain, key))
		if got := b.news(); !slices.Equal(got, []keysource.Name{"shop.example"}) {
			t.Errorf("told %v", got)
		}
		if strings.Contains(b.logs.String(), "cannot be used") {
			t.Errorf("it was reported: %s", b.logs)
		}
	})
}

func TestTheLastGoodStays(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(t *testing.T, ca testca.CA, folder string, chain, key []byte)
		words string
	}{
		"broken chain": {func(t *testing.T, _ testca.CA, f string, _, _ []byte) {
			replace(t, filepath.Join(f, crtFile), []byte("hello"))
		}, "no CERTIFICATE block"},
		"half-written chain": {func(t *testing.T, _ testca.CA, f string, chain, _ []byte) {
			replace(t, filepath.Join(f, crtFile), chain[:len(chain)/2])
		}, "cut short"},
		"half-written key": {func(t *testing.T, _ testca.CA, f string, _, key []byte) {
			replace(t, filepath.Join(f, keyFile), key[:len(key)/2])
		}, "cut short"},
		"empty key": {func(t *testing.T, _ testca.CA, f string, _, _ []byte) {
			replace(t, filepath.Join(f, keyFile), nil)
		}, "no PRIVATE KEY block"},
		"another key": {func(t *testing.T, ca testca.CA, f string, _, _ []byte) {
			_, key := ca.Issue(t, "shop.example")
			replace(t, filepath.Join(f, keyFile), key)
		}, "does not belong to the certificate"},
		"expired": {func(t *testing.T, ca testca.CA, f string, _, _ []byte) {
			chain, key := ca.IssueFor(t, testca.Key(t), time.Now().Add(-time.Hour), "shop.example")
			putPEM(t, f, chain, key)
		}, "expired at"},
		"another name": {func(t *testing.T, ca testca.CA, f string, _, _ []byte) {
			chain, key := ca.Issue(t, "other.example")
			putPEM(t, f, chain, key)
		}, `it is for ["other.example"], not for shop.example`},
		"no key": {func(t *testing.T, _ testca.CA, f string, _, _ []byte) {
			check(t, os.Remove(filepath.Join(f, keyFile)))
		}, "there is no tls.key (to remove the name, remove the folder)"},
		"no files": {func(t *testing.T, _ testca.CA, f string, _, _ []byte) {
			check(t, os.Remove(filepath.Join(f, keyFile)))
			check(t, os.Remove(filepath.Join(f, crtFile)))
		}, "there is no tls.crt"},
		"a folder for a file": {func(t *testing.T, _ testca.CA, f string, _, _ []byte) {
			check(t, os.Remove(filepath.Join(f, crtFile)))
			check(t, os.Mkdir(filepath.Join(f, crtFile), 0o755))
		}, "is not a file"},
		"an I/O error": {func(t *testing.T, _ testca.CA, f string, _, _ []byte) {
			check(t, os.Remove(filepath.Join(f, crtFile)))
			check(t, os.Symlink(crtFile, filepath.Join(f, crtFile)))
		}, "too many levels of symbolic links"},
		"folder that cannot be read": {func(t *testing.T, _ testca.CA, f string, _, _ []byte) {
			check(t, os.RemoveAll(f))
			check(t, os.Symlink("shop.example", f))
		}, "too many levels of symbolic links"},
		"folder that leads nowhere": {func(t *testing.T, _ testca.CA, f string, _, _ []byte) {
			check(t, os.RemoveAll(f))
			check(t, os.Symlink("nowhere", f))
		}, "there is no tls.crt"},
		"huge": {func(t *testing.T, _ testca.CA, f string, chain, _ []byte) {
			replace(t, filepath.Join(f, crtFile), bytes.Repeat(chain, 1+maxFile/len(chain)))
		}, "more than 1048576 bytes"},
	} {
		for _, asked := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s/asked=%v", name, asked), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					root, ca := t.TempDir(), testca.New(t)
					folder := filepath.Join(root, "shop.example")
					chain, key := ca.Issue(t, "shop.example")
					v := putPEM(t, folder, chain, key)
					other := put(t, ca, root, "other.example")
					b := start(t, root, false)
					if asked {
						b.wants("shop.example", v)
					}
					b.wants("other.example", other)
					synctest.Wait()
					if e := b.entry("shop.example"); e.Problem != "" || e.Version != v ||
						!e.NotAfter.Equal(testca.NotAfter) || e.Issuer == "" {
						t.Fatalf("while all is well: %+v", e)
					}
					b.news()

					c.spoil(t, ca, folder, chain, key)
					time.Sleep(5*time.Second + 2*secondLook)
					synctest.Wait()
					if e := b.entry("shop.example"); !strings.Contains(e.Problem, c.words) ||
						!strings.Contains(e.Problem, folder) || asked != (e.Version == v) {
						t.Errorf("the list says %+v, want %q", e, c.words)
					}
					if asked {
						b.wants("shop.example", v)
					} else {
						b.fails("shop.example", c.words)
					}
					b.wants("other.example", other)
					if got := b.news(); len(got) > 0 {
						t.Errorf("told %v", got)
					}
					time.Sleep(time.Minute)
					synctest.Wait()
					if n := strings.Count(b.logs.String(), "cannot be used"); n != 1 {
						t.Errorf("logged %d times", n)
					}

					check(t, os.RemoveAll(folder))
					v2 := put(t, ca, root, "shop.example")
					time.Sleep(5*time.Second + secondLook)
					synctest.Wait()
					if got := b.news(); !slices.Equal(got, []keysource.Name{"shop.example"}) {
						t.Errorf("after the repair: told %v", got)
					}
					b.wants("shop.example", v2)
					if e := b.entry("shop.example"); e.Problem != "" || e.Version != v2 {
						t.Errorf("after the repair: %+v", e)
					}
				})
			})
		}
	}
}

func TestCertificateThatExpiresInMemoryGoesOnAndIsListed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		root, ca := t.TempDir(), testca.New(t)
		chain, key := ca.IssueFor(t, testca.Key(t), time.Now().Add(time.Hour), "shop.example")
		v := putPEM(t, filepath.Join(root, "shop.example"), chain, key)
		b := start(t, root, false)
		b.wants("shop.example", v)
		time.Sleep(2 * time.Hour)
		synctest.Wait()
		b.wants("shop.example", v)
		if e := b.entry("shop.example"); !strings.Contains(e.Problem, "expired at") {
			t.Errorf("%+v", e)
		}
	})
}

func TestMemoryFollowsUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		root, ca := t.TempDir(), testca.New(t)
		for _, n := range names(20) {
			put(t, ca, root, n)
		}
		b := start(t, root, false)
		synctest.Wait()
		_, err := b.Certificate(t.Context(), "h003.example")
		check(t, err)
		for n, h := range b.hosts {
			if (h.good != nil) != (n == "h003.example") {
				t.Errorf("%s: content kept: %v", n, h.good != nil)
			}
			if h.version == "" {
				t.Errorf("%s was not checked", n)
			}
		}
		put(t, ca, root, "h004.example")
		b.news()
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if got := b.news(); len(got) > 0 {
			t.Errorf("told of %v, for which nobody asked", got)
		}
	})
}

func TestFoldersThatAreNoHosts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		root, ca := t.TempDir(), testca.New(t)
		chain, key := ca.Issue(t, "shop.example", "*.shop.example")
		for _, f := range []string{"shop.example", "Shop.Example", "_.shop.example", "*.shop.example", "under score",
			"lost+found", ".hidden", "..2026_01_01"} {
			putPEM(t, filepath.Join(root, f), chain, key)
		}
		check(t, os.WriteFile(filepath.Join(root, "readme.md"), nil, 0o600))
		check(t, os.Symlink("readme.md", filepath.Join(root, "tls.crt")))
		check(t, os.Symlink(".hidden", filepath.Join(root, "..data")))
		b := start(t, root, false)
		synctest.Wait()
		got := map[string]string{}
		for _, e := range b.List() {
			got[filepath.Base(e.Folder)] = string(e.Name) + "|" + e.Problem
		}
		for f, want := range map[string]string{
			// "S" comes before "s"
			"Shop.Example": "shop.example|", "_.shop.example": "*.shop.example|",
			"shop.example":   "|is shop.example again, which Shop.Example is already",
			"*.shop.example": "|a wildcard's folder is written _.example.com",
			"under score":    "|not a server name", "lost+found": "|not a server name",
		} {
			if !strings.HasPrefix(got[f], want) || want[len(want)-1] == '|' && got[f] != want {
				t.Errorf("%s: %q, want %q", f, got[f], want)
			}
			delete(got, f)
		}
		if len(got) > 0 {
			t.Errorf("also listed: %v", got)
		}
		if n := strings.Count(b.logs.String(), "folder ignored"); n != 4 {
			t.Errorf("%d lines in the log: %s", n, b.logs)
		}
	})
}
