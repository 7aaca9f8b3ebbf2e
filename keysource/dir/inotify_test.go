package dir

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/keysource/internal/testca"
	"github.com/lockstep-tls/lockstep/keysource/layout"
)

// These run on real inotify, with a rescan so late that only a wake-up can explain what they see.

func never(c *Config) { c.Rescan = time.Hour }

// soon waits for a version until the deadline. The test may have been told of it already.
func (b *bench) soon(n keysource.Name, version string, deadline time.Time) {
	b.t.Helper()
	for {
		c, err := b.Certificate(b.t.Context(), n)
		if err == nil && c.Version() == version {
			return
		}
		if time.Now().After(deadline) {
			b.t.Fatalf("%s: still %v, %v; want %s", n, c, err, version)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// eventually waits for n to be served with version.
func (b *bench) eventually(n keysource.Name, version string) {
	b.t.Helper()
	deadline := time.Now().Add(5 * time.Second)
	b.soon(n, version, deadline)
	for !slices.Contains(b.news(), n) {
		if time.Now().After(deadline) {
			b.t.Fatalf("%s changed and nobody was told", n)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// volume imitates the kubelet (pkg/volume/util/atomic_writer.go): the files are in a folder named
// by a time stamp, "..data" is a link to it that is replaced by a rename, and what users see are
// links through "..data".
type volume struct {
	t    testing.TB
	path string
	n    int
}

func (v *volume) write(files map[string][]byte) {
	v.n++
	stamp := fmt.Sprintf("..2026_01_01_%d", v.n)
	for name, content := range files {
		file := filepath.Join(v.path, stamp, name)
		check(v.t, os.MkdirAll(filepath.Dir(file), 0o755))
		check(v.t, os.WriteFile(file, content, 0o600))
	}
	old, _ := os.Readlink(filepath.Join(v.path, "..data"))
	check(v.t, os.Symlink(stamp, filepath.Join(v.path, "..data_tmp")))
	check(v.t, os.Rename(filepath.Join(v.path, "..data_tmp"), filepath.Join(v.path, "..data")))
	for name := range files {
		top, _, _ := strings.Cut(name, "/")
		if err := os.Symlink(filepath.Join("..data", top), filepath.Join(v.path, top)); err != nil &&
			!os.IsExist(err) {
			v.t.Fatal(err)
		}
	}
	if old != "" {
		check(v.t, os.RemoveAll(filepath.Join(v.path, old)))
	}
}

func TestInotifyReplacedFiles(t *testing.T) {
	root, ca := t.TempDir(), testca.New(t)
	v := put(t, ca, root, "shop.example")
	b := start(t, root, true, never)
	b.wants("shop.example", v)
	for range 3 {
		b.eventually("shop.example", put(t, ca, root, "shop.example"))
	}
	b.eventually("new.example", put(t, ca, root, "new.example"))
	b.eventually("new.example", put(t, ca, root, "new.example"))

	folder := filepath.Join(root, "shop.example")
	for range 3 { // the folder anew, which may even get the old one's inode
		check(t, os.RemoveAll(folder))
		b.eventually("shop.example", put(t, ca, root, "shop.example"))
	}
	b.news()
	check(t, os.RemoveAll(folder))
	deadline := time.Now().Add(5 * time.Second)
	for !slices.Contains(b.news(), "shop.example") {
		if time.Now().After(deadline) {
			t.Fatal("the removal was not noticed")
		}
		time.Sleep(5 * time.Millisecond)
	}
	b.absent("shop.example")
}

func TestInotifyVolumeInAHostFolder(t *testing.T) {
	root, ca := t.TempDir(), testca.New(t)
	host := &volume{t: t, path: filepath.Join(root, "shop.example")}
	renew := func() string {
		chain, key := ca.Issue(t, "shop.example")
		host.write(map[string][]byte{crtFile: chain, keyFile: key})
		return version(t, chain, key)
	}
	v := renew()
	b := start(t, root, true, never)
	b.wants("shop.example", v)
	for range 5 {
		b.eventually("shop.example", renew())
	}
	if l := b.List(); len(l) != 1 || l[0].Problem != "" {
		t.Errorf("%+v", l)
	}
}

func TestInotifyVolumeOfAllHosts(t *testing.T) {
	root, ca := t.TempDir(), testca.New(t)
	all := &volume{t: t, path: root}
	versions := map[keysource.Name]string{}
	renew := func(names ...keysource.Name) {
		files := map[string][]byte{}
		for _, n := range names {
			chain, key := ca.Issue(t, string(n))
			files[layout.Folder(n)+"/"+crtFile], files[layout.Folder(n)+"/"+keyFile] = chain, key
			versions[n] = version(t, chain, key)
		}
		all.write(files)
	}
	renew("shop.example", "*.shop.example")
	b := start(t, root, true, never)
	b.wants("shop.example", versions["shop.example"])
	b.wants("*.shop.example", versions["*.shop.example"])
	for range 5 {
		renew("shop.example", "*.shop.example")
		b.eventually("shop.example", versions["shop.example"])
		// the test may have been told of both at once
		b.soon("*.shop.example", versions["*.shop.example"], time.Now().Add(5*time.Second))
	}
	renew("shop.example", "*.shop.example", "new.example")
	b.eventually("new.example", versions["new.example"])
	if l := b.List(); len(l) != 3 {
		t.Errorf("%+v", l)
	}
}

// The old target of a link stays where it is, so that its watch does not end by itself.
func TestInotifyFollowsALinkToItsNewTarget(t *testing.T) {
	root, ca := t.TempDir(), testca.New(t)
	point := func(to string) {
		check(t, os.Symlink(to, filepath.Join(root, ".tmp")))
		check(t, os.Rename(filepath.Join(root, ".tmp"), filepath.Join(root, "shop.example")))
	}
	a, z := filepath.Join(root, ".a"), filepath.Join(root, ".z")
	issue := func(folder string) string {
		chain, key := ca.Issue(t, "shop.example")
		return putPEM(t, folder, chain, key)
	}
	first, second := issue(a), issue(z)
	point(".a")
	b := start(t, root, true, never)
	b.wants("shop.example", first)
	point(".z")
	b.eventually("shop.example", second)
	b.eventually("shop.example", issue(z))
}

func TestRootThatIsASwappedLink(t *testing.T) {
	top, ca := t.TempDir(), testca.New(t)
	root := filepath.Join(top, "certs")
	point := func(to string) {
		check(t, os.Symlink(to, root+".tmp"))
		check(t, os.Rename(root+".tmp", root))
	}
	v := put(t, ca, filepath.Join(top, "one"), "shop.example")
	point("one")
	b := start(t, root, true, func(c *Config) { c.Rescan = 100 * time.Millisecond })
	b.wants("shop.example", v)
	for _, to := range []string{"two", "three"} {
		v := put(t, ca, filepath.Join(top, to), "shop.example")
		point(to)
		b.eventually("shop.example", v)
	}
}

func TestWithoutWatchesRescansGoOn(t *testing.T) {
	root, ca := t.TempDir(), testca.New(t)
	all := names(5)
	for _, n := range all {
		put(t, ca, root, n)
	}
	b := newBench(t, root, func(c *Config) { c.Rescan = 50 * time.Millisecond })
	b.open = func() (*watcher, error) {
		w, err := openWatcher()
		if err == nil {
			w.add = func(string) error { return fmt.Errorf("inotify: %w", syscall.ENOSPC) }
		}
		return w, err
	}
	b.run()
	<-b.Ready()
	for _, n := range all {
		_, err := b.Certificate(t.Context(), n)
		check(t, err)
		b.eventually(n, put(t, ca, root, n))
	}
	if n := strings.Count(b.logs.String(), "max_user_watches"); n != 1 {
		t.Errorf("logged %d times: %s", n, b.logs)
	}
}

// A second write of the same size within one tick of the file system's clock looks like no change
// at all to stat.
func TestWriteInTheSameTickIsSeen(t *testing.T) {
	root, ca := t.TempDir(), testca.New(t)
	folder := filepath.Join(root, "shop.example")
	chain, key := ca.Issue(t, "shop.example")
	putPEM(t, folder, chain, key)
	pad := func(b []byte) []byte { return append(b, strings.Repeat("\n", 4096-len(b))...) }
	overwrite := func(chain, key []byte, at time.Time) string {
		for file, content := range map[string][]byte{crtFile: pad(chain), keyFile: pad(key)} {
			path := filepath.Join(folder, file)
			check(t, os.WriteFile(path, content, 0o600))
			check(t, os.Chtimes(path, at, at))
		}
		return version(t, chain, key)
	}
	at := time.Now()
	v := overwrite(chain, key, at)
	b := start(t, root, false, func(c *Config) { c.Rescan = 50 * time.Millisecond })
	b.wants("shop.example", v)
	time.Sleep(200 * time.Millisecond) // the look that follows the first question is over
	chain, key = ca.Issue(t, "shop.example")
	b.eventually("shop.example", overwrite(chain, key, at))
}

// Whatever moment a reader picks, it gets a certificate with its own key.
func TestReadersNeverSeeTwoHalves(t *testing.T) {
	root, ca := t.TempDir(), testca.New(t)
	last := put(t, ca, root, "shop.example")
	b := start(t, root, true, func(c *Config) { c.Rescan = 10 * time.Millisecond })
	b.wants("shop.example", last)

	done := make(chan struct{})
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				c, err := b.Certificate(t.Context(), "shop.example")
				if err != nil {
					t.Error(err)
					return
				}
				if _, err := keysource.ParseCertificate(c.PEM, time.Time{}); err != nil {
					t.Error(err)
					return
				}
				b.List()
				b.held()
			}
		})
	}
	for i := range 60 {
		chain, key := ca.Issue(t, "shop.example")
		folder := filepath.Join(root, "shop.example")
		if i%2 == 0 {
			last = putPEM(t, folder, chain, key)
			continue
		}
		for file, content := range map[string][]byte{keyFile: key, crtFile: chain} {
			// in place, in pieces
			f, err := os.Create(filepath.Join(folder, file))
			check(t, err)
			f.Write(content[:len(content)/2])
			time.Sleep(time.Millisecond)
			f.Write(content[len(content)/2:])
			check(t, f.Close())
		}
		last = version(t, chain, key)
	}
	b.eventually("shop.example", last)
	close(done)
	readers.Wait()
}
