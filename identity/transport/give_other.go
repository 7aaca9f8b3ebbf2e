//go:build !linux

package transport

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// giveSocket sets group and mode of the socket that this process has just made in dir. It follows
// no link in its place. A gid of -1 leaves the group.
func giveSocket(dir *os.File, name string, gid int, mode fs.FileMode) error {
	path := filepath.Join(dir.Name(), name)
	st, err := os.Lstat(path)
	if err != nil {
		return err
	}
	own, ok := st.Sys().(*syscall.Stat_t)
	if st.Mode()&fs.ModeSocket == 0 || ok && int(own.Uid) != os.Geteuid() {
		return fmt.Errorf("%s was replaced by somebody as it was made", name)
	}
	if gid >= 0 && (!ok || int(own.Gid) != gid) {
		if err := os.Lchown(path, -1, gid); err != nil {
			return chownError{err}
		}
	}
	return unix.Fchmodat(int(dir.Fd()), name, uint32(mode.Perm()), unix.AT_SYMLINK_NOFOLLOW)
}
