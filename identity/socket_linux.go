package identity

import (
	"fmt"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// FromSocket is the identity of who connected to a unix socket, unix:uid=1000: the user at the time of the connect, as this process's user
// namespace sees it (SO_PEERCRED, unix(7)).
func FromSocket(c syscall.Conn) (string, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return "", fmt.Errorf("peer credentials: %w", err)
	}
	var cred *unix.Ucred
	var failed error
	if err := raw.Control(func(fd uintptr) { cred, failed = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); err != nil {
		return "", fmt.Errorf("peer credentials: %w", err)
	}
	if failed != nil {
		return "", fmt.Errorf("peer credentials: %w", failed)
	}
	return "unix:uid=" + strconv.FormatUint(uint64(cred.Uid), 10), nil
}
