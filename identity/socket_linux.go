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
	cred, err := credOf(c)
	if err != nil {
		return "", err
	}
	return ofUser(cred.Uid, overflowUID()), nil
}

func credOf(c syscall.Conn) (*unix.Ucred, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("peer credentials: %w", err)
	}
	var cred *unix.Ucred
	var failed error
	if err := raw.Control(func(fd uintptr) {
		cred, failed = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return nil, fmt.Errorf("peer credentials: %w", err)
	}
	if failed != nil {
		return nil, fmt.Errorf("peer credentials: %w", failed)
	}
	return cred, nil
}

// SameNetwork reports whether who connected to a unix socket is known to have this process's
// network, so that both mean the same by 127.0.0.1 (network_namespaces(7)). The kernel does not
// show that of another user's process to one without privileges.
func SameNetwork(c syscall.Conn) bool {
	cred, err := credOf(c)
	if err != nil || cred.Pid <= 0 {
		return false
	}
	theirs, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", cred.Pid))
	if err != nil {
		return false
	}
	ours, err := os.Readlink("/proc/self/ns/net")
	return err == nil && ours == theirs
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
