package transport

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strings"
	"time"
)

// IsSocket reports whether addr is unix:/path. TLS is never spoken there.
func IsSocket(addr string) bool { return strings.HasPrefix(addr, "unix:") }

// Listen opens host:port or unix:/path. It replaces a socket that a killed process left behind. A
// socket that answers is an error.
func Listen(addr string) (net.Listener, error) {
	path, unix := strings.CutPrefix(addr, "unix:")
	if !unix {
		return net.Listen("tcp", addr)
	}
	if st, err := os.Lstat(path); err == nil {
		if st.Mode()&fs.ModeSocket == 0 {
			return nil, fmt.Errorf("%s exists and is not a socket", path)
		}
		if c, err := net.DialTimeout("unix", path, time.Second); err == nil {
			c.Close()
			return nil, fmt.Errorf("%s is in use by another process", path)
		}
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	return net.Listen("unix", path)
}

// OpenToAll lets every user of the machine connect to the socket at addr. Without it only the user
// who made the socket may. On an address that is no socket it does nothing.
func OpenToAll(addr string) error {
	path, unix := strings.CutPrefix(addr, "unix:")
	if !unix {
		return nil
	}
	return os.Chmod(path, 0o666)
}
