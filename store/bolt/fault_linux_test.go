package bolt

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/lockstep-tls/lockstep/store"
)

// tmpfs mounts a small file system of size bytes, or skips the test.
func tmpfs(t *testing.T, size int) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d", size)); err != nil {
		t.Skipf("cannot mount a tmpfs: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func TestAFullDiskLosesNothingAndRecovers(t *testing.T) {
	dir := tmpfs(t, 1<<20)
	path := filepath.Join(dir, "store.db")
	balloon := filepath.Join(dir, "balloon")
	if err := os.WriteFile(balloon, make([]byte, 512<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	s := open(t, path)
	revs := map[string]store.Rev{}
	val := make([]byte, 3000)
	writeUntilFull := func() error {
		for i := len(revs); ; i++ {
			key := fmt.Sprintf("a/%d", i)
			rev, err := s.Swap(t.Context(), key, 0, val)
			if err != nil {
				return err
			}
			revs[key] = rev
		}
	}
	check := func() {
		t.Helper()
		for key, want := range revs {
			if got, rev, err := s.Get(t.Context(), key); err != nil || rev != want || len(got) != len(val) {
				t.Fatalf("Get(%s) = %d bytes, %d, %v", key, len(got), rev, err)
			}
		}
		n := 0
		for _, err := range s.Keys(t.Context(), "a/") {
			if err != nil {
				t.Fatal(err)
			}
			n++
		}
		if n != len(revs) {
			t.Fatalf("%d keys, want %d", n, len(revs))
		}
	}
	err := writeUntilFull()
	if !errors.Is(err, syscall.ENOSPC) ||
		!strings.Contains(err.Error(), "free space on "+dir+"; the change was not made") {
		t.Fatalf("a full disk is told as %v", err)
	}
	for range 20 { // and stays so
		if err := writeUntilFull(); !errors.Is(err, syscall.ENOSPC) {
			t.Fatal(err)
		}
		check()
	}

	release := s.hold() // two creators in one commit that fails: neither is told something certain
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			_, err := s.Swap(t.Context(), "b/both", 0, make([]byte, 64<<10))
			if !errors.Is(err, syscall.ENOSPC) || errors.Is(err, store.ErrConflict) {
				t.Errorf("Swap = %v, want only ENOSPC", err)
			}
		})
	}
	s.waitingFor(t, 2)
	release()
	wg.Wait()
	check()

	before := len(revs)
	if err := os.Remove(balloon); err != nil {
		t.Fatal(err)
	}
	if err := writeUntilFull(); !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	if len(revs) < before+50 {
		t.Errorf("only %d more keys after space came back", len(revs)-before)
	}
	check()
	s.Close()
	s = open(t, path)
	check()
}

func TestAFullDiskAtTheFirstStart(t *testing.T) {
	const size = 64 << 10
	for _, left := range []int{0, 4 << 10, 8 << 10, 12 << 10, 16 << 10} {
		// a new file takes 16 KiB, and more with its buckets
		dir := tmpfs(t, size)
		path := filepath.Join(dir, "store.db")
		balloon := filepath.Join(dir, "balloon")
		if err := os.WriteFile(balloon, make([]byte, size-left), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(path); err == nil || !strings.Contains(err.Error(), "free space on "+dir) ||
			strings.Contains(err.Error(), "change") {
			t.Errorf("with %d bytes left: Open = %v", left, err)
		}
		os.Remove(balloon)
		s, err := Open(path)
		if err != nil {
			t.Fatalf("with space again: %v", err)
		}
		s.Close()
	}
}

func TestAReadOnlyDisk(t *testing.T) {
	dir := tmpfs(t, 1<<20)
	path := filepath.Join(dir, "store.db")
	s := open(t, path)
	put(t, s, "a/x", 0, []byte("v"))
	s.Close()
	if err := syscall.Mount("", dir, "", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path); !errors.Is(err, syscall.EROFS) || !strings.Contains(err.Error(), "make "+dir+" writable") {
		t.Errorf("Open = %v", err)
	}
}

// writeUntilKilled prints each key after its write was answered.
func writeUntilKilled(path string) {
	s, err := Open(path)
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	var mu sync.Mutex
	for w := range 4 {
		go func() {
			for i := 0; ; i++ {
				key := fmt.Sprintf("a/%d-%d-%d", os.Getpid(), w, i)
				if _, err := s.Swap(context.Background(), key, 0, []byte(key)); err != nil {
					fmt.Println(err)
					os.Exit(1)
				}
				mu.Lock()
				fmt.Println(key)
				mu.Unlock()
			}
		}()
	}
	select {}
}

func TestKill9LosesNoAnsweredWrite(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	var answered []string
	for range 5 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), "LOCKSTEP_TEST_WRITER="+path)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for n := 0; lines.Scan(); n++ {
			if n == 100 {
				cmd.Process.Kill()
			}
			answered = append(answered, lines.Text())
		}
		cmd.Wait()
	}
	s := open(t, path)
	for _, key := range answered {
		if val, _, err := s.Get(t.Context(), key); err != nil || string(val) != key {
			t.Fatalf("Get(%s) = %q, %v: an answered write is lost", key, val, err)
		}
	}
	if len(answered) < 500 {
		t.Errorf("only %d writes were answered", len(answered))
	}
}
