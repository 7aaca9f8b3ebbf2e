package identity

import (
	"net"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// The kernel says 65534 of every user whom it cannot name, so that number is nobody's, whatever a
// rule says.
func TestAUserWhomTheKernelCannotNameIsNoUser(t *testing.T) {
	for uid, want := range map[uint32]string{
		0: "unix:uid=0", 1000: "unix:uid=1000", 65533: "unix:uid=65533", 65534: "unix:unmapped", 777: "unix:unmapped",
	} {
		if got := ofUser(uid, 777); got != want {
			t.Errorf("%d: %q, want %q", uid, got, want)
		}
	}
	for text, want := range map[string]bool{
		"unix:uid=*": false, "unix:uid=6*": false, "unix:uid=1000": false, "unix:*": true, "*": true,
	} {
		p, err := Parse([]byte("rules: [{identity: \"" + text + "\", scopes: [default]}]"))
		if err != nil {
			t.Fatal(err)
		}
		if p.AllowsScope(unmapped, "default") != want {
			t.Errorf("a rule for %s: %v", text, !want)
		}
	}
}

func TestTheOverflowUserBehindASocket(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can be another user")
	}
	dir := t.TempDir()
	for d := dir; d != os.TempDir() && d != "/"; d = filepath.Dir(d) {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(dir, "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := os.Chmod(path, 0o666); err != nil {
		t.Fatal(err)
	}
	failed := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // for good: the thread, and its user, end with this goroutine
		failed <- func() error {
			if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, 65534, 65534, 65534); errno != 0 {
				// of this thread alone
				return errno
			}
			fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
			if err != nil {
				return err
			}
			defer unix.Close(fd)
			return unix.Connect(fd, &unix.SockaddrUnix{Name: path})
		}()
	}()
	if err := <-failed; err != nil {
		t.Fatal(err)
	}
	in, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	if got, err := FromSocket(in.(*net.UnixConn)); err != nil || got != "unix:unmapped" {
		t.Errorf("%q %v", got, err)
	}
}
