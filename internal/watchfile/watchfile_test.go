package watchfile_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lockstep-tls/lockstep/internal/watchfile"
)

var errBad = errors.New("bad")

// join is the content of all files. A file that holds "bad" cannot be used.
func join(files []watchfile.File) (all string, err error) {
	for _, f := range files {
		if f.Err != nil {
			return "", f.Err
		}
		if string(f.Bytes) == "bad" {
			return "", errBad
		}
		all += string(f.Bytes)
	}
	return all, nil
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func open(t *testing.T, paths ...string) *watchfile.Watched[string] {
	t.Helper()
	w, err := watchfile.Open(join, paths...)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func TestTheLastGoodValueStays(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	write(t, path, "one")
	w := open(t, path)
	look := func(wantChanged bool, wantFault error, now string, ill error) {
		t.Helper()
		changed, fault := w.Look()
		if changed != wantChanged || !errors.Is(fault, wantFault) || w.Now() != now || !errors.Is(w.Err(), ill) {
			t.Fatalf("changed %t, fault %v, now %q, err %v", changed, fault, w.Now(), w.Err())
		}
	}
	look(false, nil, "one", nil)
	write(t, path, "bad")
	look(false, errBad, "one", errBad)
	look(false, nil, "one", errBad) // the same fault is news only once
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	look(false, fs.ErrNotExist, "one", fs.ErrNotExist)
	write(t, path, "one")
	look(false, nil, "one", nil) // it is as it was
	write(t, path, "bad")
	look(false, errBad, "one", errBad)
	write(t, path, "two")
	look(true, nil, "two", nil)
	if loaded, rejected := w.Counts(); loaded != 2 || rejected != 3 {
		t.Errorf("%d were loaded and %d rejected", loaded, rejected)
	}
}

func TestFilesThatBelongTogetherAreLoadedTogether(t *testing.T) {
	dir := t.TempDir()
	a, b := filepath.Join(dir, "a"), filepath.Join(dir, "b")
	write(t, a, "a")
	write(t, b, "b")
	w := open(t, a, b)
	write(t, b, "B")
	if changed, _ := w.Look(); !changed || w.Now() != "aB" {
		t.Errorf("%t %q", changed, w.Now())
	}
	write(t, a, "aB") // the same bytes, but divided otherwise
	write(t, b, "")
	if changed, _ := w.Look(); !changed {
		t.Error("a change that leaves the whole as it is was not seen")
	}
}

func TestFilesMustBeGoodAtFirst(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	if _, err := watchfile.Open(join, path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	write(t, path, "bad")
	if _, err := watchfile.Open(join, path); !errors.Is(err, errBad) {
		t.Errorf("a bad file: %v", err)
	}
}

func TestLookAfterLooksNoMoreOftenThanItsAge(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	write(t, path, "one")
	w := open(t, path)
	write(t, path, "two")
	if w.LookAfter(time.Hour); w.Now() != "one" {
		t.Error("it looked too early")
	}
	if w.LookAfter(0); w.Now() != "two" {
		t.Error("it did not look")
	}
}

// A Kubernetes volume replaces a link beside the file, not the file.
func TestRunSeesAFileThatIsReplacedAndALinkThatIs(t *testing.T) {
	dir := t.TempDir()
	for _, v := range []string{"1", "2"} {
		if err := os.Mkdir(filepath.Join(dir, v), 0o700); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, v, "f"), v)
	}
	link := func(to string) {
		t.Helper()
		if err := errors.Join(os.Symlink(to, filepath.Join(dir, "tmp")),
			os.Rename(filepath.Join(dir, "tmp"), filepath.Join(dir, "data"))); err != nil {
			t.Fatal(err)
		}
	}
	link("1")
	if err := os.Symlink(filepath.Join("data", "f"), filepath.Join(dir, "f")); err != nil {
		t.Fatal(err)
	}
	w := open(t, filepath.Join(dir, "f"))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	var blind atomic.Bool
	go func() {
		defer close(done)
		w.Run(ctx, time.Hour, func() { w.Look() }, func() { blind.Store(true) })
	}()
	defer func() { cancel(); <-done }()
	becomes := func(want string) {
		t.Helper()
		for deadline := time.Now().Add(10 * time.Second); w.Now() != want; time.Sleep(time.Millisecond) {
			if blind.Load() {
				t.Skip("no inotify here")
			}
			if time.Now().After(deadline) {
				t.Fatalf("%q, want %q", w.Now(), want)
			}
		}
	}
	time.Sleep(50 * time.Millisecond) // the folder is watched
	link("2")
	becomes("2")
	write(t, filepath.Join(dir, "new"), "3")
	if err := os.Rename(filepath.Join(dir, "new"), filepath.Join(dir, "f")); err != nil {
		t.Fatal(err)
	}
	becomes("3")
}
