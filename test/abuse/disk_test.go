package abuse

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/lockstep-tls/lockstep/test/fleet"
)

// mount runs mount(8); without the right to, there is nothing to test.
func mount(t *testing.T, dir string, args ...string) {
	t.Helper()
	if out, err := exec.Command("mount", append(args, dir)...).CombinedOutput(); err != nil {
		t.Skipf("mount %v: %v %s (needs root)", args, err, out)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
}

// refuses: the change failed with words that name the disk's fault and the path.
func (s *stage) refuses(command string, code int, body, fault string) {
	s.t.Helper()
	// the latter: it could not even be written down
	failed := code == http.StatusInternalServerError || code == http.StatusServiceUnavailable
	if !failed || !strings.Contains(body, fault) || !strings.Contains(body, s.plane.Data) {
		s.t.Errorf("%s: %d %s, want 500 or 503 with %q and the path", command, code, body, fault)
	}
}

// serves: what is published goes on being served, to a node that comes now, too.
func (s *stage) serves() {
	s.t.Helper()
	s.mu.Lock()
	had := len(s.at)
	s.mu.Unlock()
	s.node(fmt.Sprintf("late-%d", had))
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := fleet.Until(ctx, func() error {
		s.mu.Lock()
		defer s.mu.Unlock()
		if len(s.at) == had {
			return errors.New("the node that came late was not served")
		}
		return nil
	}); err != nil {
		s.t.Error(err)
	}
}

func TestAFullDiskStopsChangesAndNothingElse(t *testing.T) {
	dir := t.TempDir()
	mount(t, dir, "-t", "tmpfs", "-o", "size=8m", "tmpfs")
	s := setUpIn(t, filepath.Join(dir, "data"))
	if code, body := s.post("rotate"); code != http.StatusOK {
		t.Fatalf("%d %s", code, body)
	}
	ballast := filepath.Join(dir, "ballast")
	f, err := os.Create(ballast)
	if err != nil {
		t.Fatal(err)
	}
	for size := 1 << 16; size >= 512; {
		if _, err := f.Write(make([]byte, size)); err != nil {
			size /= 2
		}
	}
	f.Close()
	// The store's file may have free pages of its own: a change that fits is made. A record that
	// grows finds the end of them.
	const fault = "no space left on device"
	grow := func(i int) (int, string) {
		return s.send("exclude", fmt.Sprintf(`{"node":"good-0","why":"%d-%s","seconds":3600}`,
			i, strings.Repeat("y", 1100)))
	}
	code, body := http.StatusOK, ""
	for i := 0; code == http.StatusOK && i < 490; i++ {
		code, body = grow(i)
	}
	s.refuses("exclude", code, body, fault)
	s.serves()
	for i := range 3 { // and again: nothing of the failed change is left
		code, body := grow(1000 + i)
		s.refuses("exclude", code, body, fault)
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	began := time.Now()
	if err := fleet.Until(ctx, func() error {
		if code, body := s.post("rotate"); code != http.StatusOK {
			return fmt.Errorf("%d %s", code, body)
		}
		if s.metric("lockstep_store_up") != 1 {
			return errors.New("lockstep_store_up is not 1")
		}
		return nil
	}); err != nil {
		t.Errorf("after space was made: %v", err)
	}
	t.Logf("it recovered %s after space was made", time.Since(began).Round(time.Millisecond))
}

// The kernel turns a file system read-only when it finds it damaged; without an unmount it never
// turns it back, so that is not tested.
func TestADiskThatTurnsReadOnlyStopsChangesAndNothingElse(t *testing.T) {
	dir := t.TempDir()
	img := filepath.Join(t.TempDir(), "img")
	if err := os.WriteFile(img, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(img, 32<<20); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("mkfs.ext4", "-q", "-O", "^has_journal", img).CombinedOutput(); err != nil {
		t.Skipf("mkfs.ext4: %v %s", err, out)
	}
	mount(t, dir, "-o", "loop,errors=remount-ro", img)
	s := setUpIn(t, filepath.Join(dir, "data"))
	source, err := exec.Command("findmnt", "-n", "-o", "SOURCE", dir).Output()
	if err != nil {
		t.Skipf("findmnt: %v", err)
	}
	trigger := filepath.Join("/sys/fs/ext4", filepath.Base(strings.TrimSpace(string(source))), "trigger_fs_error")
	if err := os.WriteFile(trigger, []byte("1"), 0); err != nil {
		t.Skip(err)
	}
	const fault = "read-only file system"
	for _, command := range []string{"rotate", "burn"} {
		code, body := s.post(command)
		s.refuses(command, code, body, fault)
	}
	s.serves()
	for try := 0; s.metric("lockstep_store_up") != 0; try++ {
		// a look that only reads finds the disk well
		if try == 10 {
			t.Fatal("lockstep_store_up is not 0 after a change was refused")
		}
		s.post("rotate")
	}
}
