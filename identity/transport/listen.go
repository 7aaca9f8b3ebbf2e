package transport

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// IsSocket reports whether addr is unix:/path. TLS is never spoken there.
func IsSocket(addr string) bool { return strings.HasPrefix(addr, "unix:") }

// Socket says who may connect to a unix socket. The zero value lets in only the user who makes it.
type Socket struct {
	// Mode is the socket's. 0 stands for 0600.
	Mode fs.FileMode
	// Group gets the socket, by name or number. Empty leaves the group of the process.
	Group string
	// OwnDir says that the directory is the socket's alone. If it is there already, it gets the
	// mode and the group that one which is made would get.
	OwnDir bool
}

// Listen opens host:port or unix:/path. A socket lets in the user who made it, and nobody else.
// Listen replaces a socket that a killed process left behind. A socket that answers is an error.
func Listen(addr string) (net.Listener, error) { return Socket{}.Listen(addr) }

// Listen is the function Listen for a socket that lets in others too. It makes the directory if it
// is missing, with the mode 0700, 0750 if there is a group, or 0755 if the mode lets in everybody.
func (s Socket) Listen(addr string) (net.Listener, error) {
	path, socket := strings.CutPrefix(addr, "unix:")
	if !socket {
		return inWords(net.Listen("tcp", addr))
	}
	gid := -1
	if s.Group != "" {
		var err error
		if gid, err = groupID(s.Group); err != nil {
			return nil, err
		}
	}
	dir, err := s.directory(filepath.Dir(path), gid)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	if err := turn(dir); err != nil {
		return nil, err
	}
	if err := replace(path); err != nil {
		return nil, err
	}
	// The socket has this mode from its first moment, whatever the umask.
	narrow := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		return errors.Join(c.Control(func(fd uintptr) {
			if runtime.GOOS == "linux" {
				err = syscall.Fchmod(int(fd), 0o600)
			}
		}), err)
	}}
	l, err := narrow.Listen(context.Background(), "unix", path)
	if err != nil {
		return nil, err
	}
	if err := s.give(dir, filepath.Base(path), gid); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// Look returns why Listen would fail, as far as that can be known without listening. Another
// process may listen there. Look makes nothing, and connects to nobody.
func (s Socket) Look(addr string) error {
	path, socket := strings.CutPrefix(addr, "unix:")
	if !socket {
		if _, err := net.ResolveTCPAddr("tcp", addr); err != nil {
			return &net.OpError{Op: "listen", Net: "tcp", Err: err}
		}
		return nil
	}
	gid := -1
	if s.Group != "" {
		var err error
		if gid, err = groupID(s.Group); err != nil {
			return err
		}
	}
	if st, err := os.Lstat(path); err == nil && st.Mode()&fs.ModeSocket == 0 {
		return noSocket(path)
	}
	dir := filepath.Dir(path)
	opened, err := openDir(dir)
	if err == nil {
		defer opened.Close()
	}
	_, missing := os.Lstat(dir) // a link that leads nowhere is there
	switch {
	case errors.Is(missing, fs.ErrNotExist): // Listen makes it, and not the one above it
		if above, err := os.Stat(filepath.Dir(dir)); err != nil || !above.IsDir() {
			if err == nil {
				err = syscall.ENOTDIR
			}
			var p *fs.PathError
			if errors.As(err, &p) {
				err = p.Err
			}
			return fmt.Errorf("the directory of the socket: %w", &fs.PathError{Op: "mkdir", Path: dir, Err: err})
		}
		return nil
	case err != nil:
		return fmt.Errorf("the directory of the socket: %w", err)
	case s.OwnDir:
		if st, err := opened.Stat(); err != nil || !ours(st) {
			return errors.Join(err, foreign(dir))
		}
	case gid >= 0:
		return s.enters(dir, gid)
	}
	return nil
}

func noSocket(path string) error { return fmt.Errorf("%s exists and is not a socket", path) }

// give gives a new socket to those whom s lets in.
func (s Socket) give(dir *os.File, name string, gid int) error {
	mode := s.Mode
	if mode == 0 {
		mode = 0o600
	}
	err := giveSocket(dir, name, gid, mode)
	if refused := (chownError{}); errors.As(err, &refused) {
		return fmt.Errorf("the group %s does not get the socket: %w: this process must run as root or be a member "+
			"of that group", s.Group, refused.error)
	}
	return err
}

// chownError says that a group did not get a file.
type chownError struct{ error }

func (e chownError) Unwrap() error { return e.error }

// directory opens the directory of the socket, which it makes if it is missing, and checks that the
// group gets through it.
func (s Socket) directory(path string, gid int) (dir *os.File, err error) {
	mode := fs.FileMode(0o700)
	switch {
	case gid >= 0:
		mode = 0o750
	case s.Mode&0o007 != 0:
		mode = 0o755
	}
	err = os.Mkdir(path, 0o700)
	made := err == nil
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("the directory of the socket: %w", err)
	}
	if dir, err = openDir(path); err != nil {
		return nil, fmt.Errorf("the directory of the socket: %w", err)
	}
	defer func() {
		if err != nil {
			dir.Close()
		}
	}()
	if made || s.OwnDir {
		if err := s.own(dir, gid, mode); err != nil {
			return nil, err
		}
	}
	if gid >= 0 {
		err = s.enters(path, gid)
	}
	return dir, err
}

func foreign(dir string) error {
	return fmt.Errorf("the directory of the socket: %s belongs to another user: remove it, or give the socket "+
		"another path", dir)
}

// own gives a directory that is the socket's alone its group and mode.
func (s Socket) own(dir *os.File, gid int, mode fs.FileMode) error {
	st, err := dir.Stat()
	if err != nil {
		return err
	}
	if !ours(st) {
		return foreign(dir.Name())
	}
	// A service may not be allowed to call chown at all.
	if own, ok := st.Sys().(*syscall.Stat_t); gid >= 0 && (!ok || int(own.Gid) != gid) {
		if err := dir.Chown(-1, gid); err != nil {
			return fmt.Errorf("the group %s does not get the directory of the socket: %w: this process must run as "+
				"root or be a member of that group", s.Group, err)
		}
	}
	if st.Mode().Perm() != mode {
		if err := dir.Chmod(mode); err != nil {
			return fmt.Errorf("the directory of the socket: %w", err)
		}
	}
	return nil
}

// enters returns why the group does not get through dir and the directories above it.
func (s Socket) enters(dir string, gid int) error {
	for at := dir; ; at = filepath.Dir(at) {
		st, err := os.Stat(at)
		if err != nil {
			return err
		}
		perm := st.Mode().Perm()
		own, ok := st.Sys().(*syscall.Stat_t)
		if perm&0o001 == 0 && (!ok || int(own.Gid) != gid || perm&0o010 == 0) {
			return fmt.Errorf("the group %s does not get to the socket: it may not enter %s (mode %04o): "+
				"give the socket a directory of its own, such as unix:/run/lockstep/xds.sock", s.Group, at, perm)
		}
		if at == filepath.Dir(at) {
			return nil
		}
	}
}

// replace removes a socket on which nobody listens any more.
func replace(path string) error {
	st, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case st.Mode()&fs.ModeSocket == 0:
		return noSocket(path)
	}
	c, err := net.DialTimeout("unix", path, time.Second)
	switch {
	case err == nil:
		c.Close()
		return fmt.Errorf("%s is in use by another process", path)
	case errors.Is(err, syscall.ENOENT):
		return nil
	case !errors.Is(err, syscall.ECONNREFUSED): // such as EAGAIN of a process that is busy
		return fmt.Errorf("%s may be in use by another process: %w", path, err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// groupID returns the number of a group that is given by name or number.
func groupID(group string) (int, error) {
	if id, err := strconv.ParseUint(group, 10, 31); err == nil {
		return int(id), nil
	}
	g, err := user.LookupGroup(group)
	if err != nil {
		return 0, fmt.Errorf("the group %s: %w", group, err)
	}
	return strconv.Atoi(g.Gid)
}

// inWords says what an address that is taken means.
func inWords(l net.Listener, err error) (net.Listener, error) {
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("%w: another process listens there: give this one an address of its own", err)
	}
	return l, err
}
