package daemon

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strings"
	"time"
)

// isSocket: addr is unix:/path. Who may connect is a matter of file permissions there, and TLS is never spoken.
func isSocket(addr string) bool { return strings.HasPrefix(addr, "unix:") }

// listen opens host:port or unix:/path. A socket that a killed process left behind is replaced; one that answers is not.
func listen(addr string) (net.Listener, error) {
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

// openSocket lets every user connect to the nodes' socket where a policy says what each may have; else only the user who made it may.
func (d *Daemon) openSocket() error {
	path, unix := strings.CutPrefix(d.cfg.XDSListen, "unix:")
	if !unix || d.policy == nil {
		return nil
	}
	return os.Chmod(path, 0o666)
}
