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

// Of several that find a dead socket at once, one gets the path, and keeps it.
func TestOfSeveralAtOnceOneGetsTheSocket(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "s")
	for round := range 50 {
		dead, err := Listen("unix:" + path)
		if err != nil {
			t.Fatal(err)
		}
		dead.(*net.UnixListener).SetUnlinkOnClose(false)
		dead.Close()
		const n = 8
		got := make(chan net.Listener, n)
		begin := make(chan struct{})
		for range n {
			go func() {
				<-begin
				l, _ := Listen("unix:" + path)
				got <- l
			}()
		}
		close(begin)
		var winners []net.Listener
		for range n {
			if l := <-got; l != nil {
				winners = append(winners, l)
			}
		}
		c, err := net.Dial("unix", path)
		if err != nil {
			t.Errorf("round %d: nobody answers: %v", round, err)
		} else {
			c.Close()
		}
		for _, l := range winners {
			l.Close()
		}
		if len(winners) != 1 {
			t.Fatalf("round %d: %d processes have the path", round, len(winners))
		}
	}
}

// A link that another user placed would have lockstepd give away what it leads to.
func TestALinkOfAnotherUserIsNotFollowed(t *testing.T) {
	root := t.TempDir()
	private := filepath.Join(root, "private")
	link := filepath.Join(root, "link")
	if err := errors.Join(os.Mkdir(private, 0o700), os.Symlink("private", link)); err != nil {
		t.Fatal(err)
	}
	s := Socket{Mode: 0o666, OwnDir: true}
	addr := "unix:" + filepath.Join(link, "s")
	if os.Getuid() == 0 {
		if err := os.Lchown(link, 12345, -1); err != nil {
			t.Fatal(err)
		}
		for what, err := range map[string]error{
			"Look":   s.Look(addr),
			"Listen": func() error { _, err := s.Listen(addr); return err }(),
		} {
			if err == nil || !strings.Contains(err.Error(), "symbolic link of another user") {
				t.Errorf("%s: %v", what, err)
			}
		}
		if got := mode(t, private); got != 0o700 {
			t.Errorf("the mode of the directory became %v", got)
		}
		if err := os.Chown(private, 12345, -1); err != nil {
			t.Fatal(err)
		}
		own := "unix:" + filepath.Join(private, "s")
		_, err := s.Listen(own)
		for _, err := range []error{err, s.Look(own)} {
			if err == nil || !strings.Contains(err.Error(), "belongs to another user") {
				t.Errorf("a directory of another user: %v", err)
			}
		}
		if err := errors.Join(os.Chown(private, 0, -1), os.Lchown(link, 0, -1)); err != nil {
			t.Fatal(err)
		}
	}
	l, err := s.Listen(addr)
	if err != nil {
		t.Fatalf("a link of our own: %v", err)
	}
	defer l.Close()
	if got := mode(t, filepath.Join(private, "s")); got != 0o666 {
		t.Errorf("%v", got)
	}
	nowhere := filepath.Join(root, "nowhere")
	if err := os.Symlink("x", nowhere); err != nil {
		t.Fatal(err)
	}
	if err := s.Look("unix:" + filepath.Join(nowhere, "s")); err == nil {
		t.Error("a link that leads nowhere")
	}
}

// What somebody puts in the place of a new socket does not get its mode.
func TestWhatIsPutInThePlaceOfASocketIsNotGivenAway(t *testing.T) {
	path := t.TempDir()
	secret := filepath.Join(path, "secret")
	err := errors.Join(os.WriteFile(secret, nil, 0o600), os.Symlink("secret", filepath.Join(path, "s")))
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	if err := (Socket{Mode: 0o666}).give(dir, "s", -1); err == nil || mode(t, secret) != 0o600 {
		t.Errorf("%v, the mode is %v", err, mode(t, secret))
	}
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
