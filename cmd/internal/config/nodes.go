package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/lockstep-tls/lockstep/cmd/internal/place"
)

// openAddr is the address for nodes if nobody names one, and plaintext for all or mTLS is asked
// for.
const openAddr = "127.0.0.1:18000"

// Octal is a mode as one writes it, such as 0660. YAML would read the digits as a number otherwise.
type Octal string

// UnmarshalYAML implements the interface of goccy/go-yaml.
func (o *Octal) UnmarshalYAML(b []byte) error {
	*o = Octal(strings.Trim(strings.TrimSpace(string(b)), "\"'"))
	return nil
}

// places fills in the directory and the address that no setting names.
func (c *Config) places(uid int, getenv func(string) string) (err error) {
	if c.DataDir == "" {
		c.unnamedDir = true
		if c.DataDir, err = place.Data(uid, getenv); err != nil {
			return fmt.Errorf("data_dir: %w: name it", err)
		}
	}
	path, socket := strings.CutPrefix(c.XDSListen, "unix:")
	switch {
	case socket && path != "" && !strings.HasPrefix(path, "@"):
		path, err = filepath.Abs(path) // nodes get this path, wherever they run
		c.XDSListen = "unix:" + path
	case c.XDSListen != "":
	case c.MTLS(), c.XDSOpen && c.Policy == "":
		c.XDSListen = openAddr
	case c.XDSSocketGroup != "", c.Policy != "":
		c.ownDir = true
		if path, err = place.Socket(uid, getenv); err != nil {
			return fmt.Errorf("xds_listen: %w: name it (unix:/path)", err)
		}
		c.XDSListen = "unix:" + path
	default:
		path, err = filepath.Abs(filepath.Join(c.DataDir, place.SocketName))
		c.XDSListen = "unix:" + path
	}
	return err
}

// Forgotten returns an error if no setting names the data directory, its place was never used, and
// the working directory has one of an earlier version.
func (c *Config) Forgotten() error {
	if !c.unnamedDir {
		return nil
	}
	return place.Forgotten(c.DataDir)
}

// SocketMode returns the mode of the socket for nodes.
func (c *Config) SocketMode() fs.FileMode {
	switch {
	case c.socketMode != 0:
		return c.socketMode
	case c.XDSSocketGroup != "":
		return 0o660
	case c.Policy != "": // it says what each user of this machine may have
		return 0o666
	}
	return 0o600
}

// OwnSocketDir reports whether the directory of the socket for nodes is lockstepd's choice, and the
// socket's alone.
func (c *Config) OwnSocketDir() bool { return c.ownDir }

// OpenToAll reports whether whoever can connect to XDSListen gets everything, as XDSOpen allows.
func (c *Config) OpenToAll() bool {
	if !c.XDSOpen || c.Policy != "" {
		return false
	}
	if strings.HasPrefix(c.XDSListen, "unix:") {
		return c.SocketMode()&0o002 != 0
	}
	return !c.MTLS()
}

// checkNodes refuses an address for nodes at which others would get secrets that nobody has granted
// them, and a socket that those for whom it is meant cannot reach.
func (c *Config) checkNodes() error {
	if c.XDSSocketMode != "" {
		mode, err := strconv.ParseUint(string(c.XDSSocketMode), 8, 32)
		if err != nil || mode&^0o777 != 0 || mode&0o600 != 0o600 {
			return fmt.Errorf("xds_socket_mode: %q is no mode such as 0660; the owner reads and writes",
				c.XDSSocketMode)
		}
		c.socketMode = fs.FileMode(mode)
	}
	path, socket := strings.CutPrefix(c.XDSListen, "unix:")
	if !socket {
		switch {
		case c.XDSSocketMode != "" || c.XDSSocketGroup != "":
			return fmt.Errorf("xds_socket_mode and xds_socket_group are for a socket, and xds_listen is %s: "+
				"drop them, or give xds_listen as unix:/path", c.XDSListen)
		case !c.MTLS() && c.Policy == "" && !c.XDSOpen && Loopback(c.XDSListen):
			return fmt.Errorf("xds_listen: %s is plaintext TCP and there is no policy: every user of this machine "+
				"would get every private key; leave xds_listen out (a socket that only this user opens), or name who "+
				"gets what (policy), or give certificates (xds_cert, xds_key, xds_client_ca); if whoever can connect "+
				"may have everything, say so with xds_open (--xds-open)", c.XDSListen)
		}
		return nil
	}
	if c.SocketMode()&0o002 != 0 && c.Policy == "" && !c.XDSOpen {
		return fmt.Errorf("xds_socket_mode: %s lets in every user of this machine, and there is no policy: name who "+
			"gets what (policy), or use xds_socket_group; if whoever can connect may have everything, say so with "+
			"xds_open (--xds-open)", c.XDSSocketMode)
	}
	if c.XDSSocketGroup == "" && (c.socketMode == 0 || c.socketMode&0o066 == 0) {
		return nil
	}
	below, err := inside(c.DataDir, path)
	if err == nil && below {
		err = errors.New("xds_listen: " + path + " is in the data directory, which only lockstepd's user may enter, " +
			"and xds_socket_group or xds_socket_mode is to let others in: give the socket a directory of its own, " +
			"such as unix:/run/lockstep/xds.sock")
	}
	return err
}

// inside reports whether a path is below a directory. Both need not exist.
func inside(dir, path string) (bool, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return false, err
	}
	if rel, err := filepath.Rel(dir, path); err == nil && filepath.IsLocal(rel) {
		return true, nil
	}
	root, err := os.Stat(dir)
	if err != nil {
		return false, nil // a new one
	}
	for at := filepath.Dir(path); ; at = filepath.Dir(at) {
		if st, err := os.Stat(at); err == nil && os.SameFile(st, root) {
			return true, nil
		}
		if at == filepath.Dir(at) {
			return false, nil
		}
	}
}
