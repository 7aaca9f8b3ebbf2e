package identity

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// FromSocket is the identity of who connected to a unix socket, unix:uid=1000: the user at the time
// of the connect, as this process's user namespace sees it (SO_PEERCRED, unix(7)). A user whom it
// does not know, or nobody (65534), is unix:unmapped.
func FromSocket(c syscall.Conn) (string, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return "", fmt.Errorf("peer credentials: %w", err)
	}
	var cred *unix.Ucred
	var failed error
	if err := raw.Control(func(fd uintptr) {
		cred, failed = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return "", fmt.Errorf("peer credentials: %w", err)
	}
	if failed != nil {
		return "", fmt.Errorf("peer credentials: %w", failed)
	}
	return ofUser(cred.Uid, overflowUID()), nil
}

// ofUser is the identity of a user. The overflow uid is no user's: the kernel gives it for all whom
// this process's user namespace does not know, and whom a rule for that number would let in.
func ofUser(uid, overflow uint32) string {
	if uid == overflow || uid == nobody {
		return unmapped
	}
	return unixUID + strconv.FormatUint(uint64(uid), 10)
}

// overflowUID is what this kernel gives for users that it cannot name (user_namespaces(7)).
var overflowUID = sync.OnceValue(func() uint32 {
	b, err := os.ReadFile("/proc/sys/kernel/overflowuid")
	if err != nil {
		return nobody
	}
	uid, err := strconv.ParseUint(strings.TrimSpace(string(b)), 10, 32)
	if err != nil {
		return nobody
	}
	return uint32(uid)
})
