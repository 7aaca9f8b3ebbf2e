package transport

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// A directory root:lockstep of the mode 0730 lets lockstepd make its socket, and list nothing.
func TestASocketNeedsNoRightToReadItsDirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "d")
	if err := errors.Join(os.Mkdir(dir, 0o700), os.Chmod(dir, 0o330)); err != nil {
		t.Fatal(err)
	}
	if os.Getuid() != 0 {
		l, err := Listen("unix:" + filepath.Join(dir, "s"))
		if err != nil {
			t.Fatal(err)
		}
		l.Close()
		return
	}
	const user, group = 12344, 12345
	if err := os.Chown(dir, 0, group); err != nil {
		t.Fatal(err)
	}
	for at := filepath.Dir(dir); at != "/"; at = filepath.Dir(at) {
		// Only the folders of tests are.
		if st, err := os.Stat(at); err != nil || st.Mode()&0o001 == 0 {
			if err := os.Chmod(at, 0o711); err != nil {
				t.Fatal(err)
			}
		}
	}
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlock it, so that the thread ends with its user
		if err := errors.Join(unix.Setfsgid(group), unix.Setfsuid(user)); err != nil {
			done <- err
			return
		}
		if f, err := os.Open(dir); err == nil {
			f.Close()
			done <- errors.New("this user may read the directory")
			return
		}
		path := filepath.Join(dir, "s")
		opened, err := Socket{}.directory(dir, -1)
		if err == nil {
			turn(opened, turnWithin, Socket{}.log())
			var l net.Listener
			if l, err = net.Listen("unix", path); err == nil {
				err = l.Close()
			}
		}
		done <- errors.Join(err, Socket{}.Look("unix:"+path))
	}()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
