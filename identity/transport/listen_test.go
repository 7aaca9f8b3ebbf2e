package transport

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

func mode(t *testing.T, path string) fs.FileMode {
	t.Helper()
	st, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return st.Mode().Perm()
}

func TestASocketHasItsModeWhateverTheUmask(t *testing.T) {
	before := syscall.Umask(0)
	defer syscall.Umask(before)
	path := filepath.Join(t.TempDir(), "s")
	l, err := Listen("unix:" + path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if got := mode(t, path); got != 0o600 {
		t.Errorf("%v", got)
	}
}

// The socket is narrow before its mode is set, too: nobody gets in meanwhile.
func TestASocketIsNarrowFromItsFirstMoment(t *testing.T) {
	before := syscall.Umask(0)
	defer syscall.Umask(before)
	path := filepath.Join(t.TempDir(), "s")
	s := Socket{Mode: 0o666, Group: "no-such-group-here"}
	if _, err := s.Listen("unix:" + path); err == nil {
		t.Fatal("a group that does not exist")
	}
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("the socket was made all the same: %v", err)
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := errors.Join(unix.Fchmod(fd, 0o600), unix.Bind(fd, &unix.SockaddrUnix{Name: path})); err != nil {
		t.Fatal(err)
	}
	if got := mode(t, path); got != 0o600 {
		t.Errorf("this kernel makes a socket with the mode %v, whatever it had before", got)
	}
}

func TestADeadSocketIsReplacedAndALiveOneIsNot(t *testing.T) {
	addr := "unix:" + filepath.Join(t.TempDir(), "s")
	first, err := Listen(addr)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(addr); err == nil || !strings.Contains(err.Error(), "in use by another process") {
		t.Fatalf("it was stolen: %v", err)
	}
	first.(*net.UnixListener).SetUnlinkOnClose(false) // as after kill -9
	first.Close()
	second, err := Listen(addr)
	if err != nil {
		t.Fatalf("a dead one: %v", err)
	}
	second.Close()
}

// A process that is stopped or busy takes no connection, and yet the socket is its own.
func TestABusySocketIsNotStolen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := errors.Join(unix.Bind(fd, &unix.SockaddrUnix{Name: path}), unix.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	for range 2 { // its queue is full then
		if c, err := net.Dial("unix", path); err == nil {
			defer c.Close()
		}
	}
	if _, err := Listen("unix:" + path); err == nil || !strings.Contains(err.Error(), "in use by another process") {
		t.Fatalf("it was stolen: %v", err)
	}
}

func TestASocketForAGroupLiesInADirectoryOfThatGroup(t *testing.T) {
	root := t.TempDir()
	for dir := root; dir != "/"; dir = filepath.Dir(dir) {
		st, err := os.Stat(dir)
		if err != nil {
			t.Fatal(err)
		}
		if st.Mode()&0o001 == 0 { // only the folders of tests are
			if err := os.Chmod(dir, 0o711); err != nil {
				t.Skipf("the group would not get to %s: %v", root, err)
			}
		}
	}
	gid := os.Getgid()
	if os.Getuid() == 0 {
		gid = 12345
	}
	check := func(path string, want fs.FileMode) {
		t.Helper()
		st, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if own := st.Sys().(*syscall.Stat_t); st.Mode().Perm() != want || int(own.Gid) != gid {
			t.Errorf("%s has the mode %v and the group %d", path, st.Mode(), own.Gid)
		}
	}
	s := Socket{Mode: 0o660, Group: strconv.Itoa(gid)}
	path := filepath.Join(root, "new", "s")
	l, err := s.Listen("unix:" + path)
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	check(filepath.Dir(path), 0o750)

	// One of before, of another group and mode, is put right if it is the socket's alone.
	if err := errors.Join(os.Chmod(filepath.Dir(path), 0o700),
		os.Chown(filepath.Dir(path), -1, os.Getgid())); err != nil {
		t.Fatal(err)
	}
	if os.Getuid() == 0 {
		if _, err := s.Listen("unix:" + path); err == nil || !strings.Contains(err.Error(), "may not enter") {
			t.Fatalf("nobody of the group reaches it: %v", err)
		}
	}
	s.OwnDir = true
	if l, err = s.Listen("unix:" + path); err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	check(filepath.Dir(path), 0o750)
	check(path, 0o660)
}
