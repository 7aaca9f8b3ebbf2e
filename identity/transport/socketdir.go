package transport

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

const (
	// maxLinks bounds the links that lead to a directory.
	maxLinks = 8
	// turnWithin is how long another process may take to open a socket in the same directory.
	turnWithin = 5 * time.Second
)

// openDir opens a directory by its last name. A symbolic link there is followed only if it belongs
// to root or to this user. Anybody else could have it lead to a directory of ours, which would be
// given away then.
func openDir(path string) (*os.File, error) {
	for range maxLinks {
		st, err := os.Lstat(path)
		if err != nil {
			return nil, err
		}
		if st.Mode()&fs.ModeSymlink == 0 {
			return os.OpenFile(path, os.O_RDONLY|syscall.O_DIRECTORY|syscall.O_NOFOLLOW, 0)
		}
		if !ours(st) {
			return nil, fmt.Errorf("%s is a symbolic link of another user: remove it, or give the socket another path",
				path)
		}
		to, err := os.Readlink(path)
		if err != nil {
			return nil, err
		}
		if again, err := os.Lstat(path); err != nil || !os.SameFile(st, again) {
			return nil, errors.Join(fmt.Errorf("%s was replaced just now", path), err)
		}
		if !filepath.IsAbs(to) {
			to = filepath.Join(filepath.Dir(path), to)
		}
		path = to
	}
	return nil, &fs.PathError{Op: "open", Path: path, Err: syscall.ELOOP}
}

// ours reports whether a file belongs to this user or to root.
func ours(st fs.FileInfo) bool {
	own, ok := st.Sys().(*syscall.Stat_t)
	return !ok || own.Uid == 0 || int(own.Uid) == os.Geteuid()
}

// turn waits until no other process opens a socket in the directory, and keeps others waiting until
// it is closed. A file system without locks has no turns.
func turn(dir *os.File) error {
	for until := time.Now().Add(turnWithin); ; time.Sleep(10 * time.Millisecond) {
		err := syscall.Flock(int(dir.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		switch {
		case errors.Is(err, syscall.EINTR):
		case !errors.Is(err, syscall.EWOULDBLOCK):
			return nil
		case time.Now().After(until):
			return fmt.Errorf("another process holds a lock on %s for longer than %s: "+
				"give the socket a directory of its own", dir.Name(), turnWithin)
		}
	}
}
