package transport

import (
	"fmt"
	"io/fs"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// giveSocket sets group and mode of the socket that this process has just made in dir, and of
// nothing that somebody put in its place. A gid of -1 leaves the group.
func giveSocket(dir *os.File, name string, gid int, mode fs.FileMode) error {
	fd, err := unix.Openat(int(dir.Fd()), name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return &fs.PathError{Op: "open", Path: name, Err: err}
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFSOCK || int(st.Uid) != os.Geteuid() {
		return fmt.Errorf("%s was replaced by somebody as it was made", name)
	}
	if gid >= 0 && int(st.Gid) != gid { // a service may not be allowed to call chown at all
		if err := unix.Fchownat(fd, "", -1, gid, unix.AT_EMPTY_PATH); err != nil {
			return chownError{err}
		}
	}
	// There is no fchmod for such a descriptor, and this path follows no link in its place.
	return os.Chmod("/proc/self/fd/"+strconv.Itoa(fd), mode)
}
