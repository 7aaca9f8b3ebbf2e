// Package place says where the programs keep files and sockets when no setting says so. It knows
// the places of a program of root, and those of any other user (XDG Base Directory Specification).
package place

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Before is the data directory that lockstepd and lockstep used when none was named, in earlier
// versions. It is relative to the working directory.
const Before = "./lockstep-data"

// SocketName is the name of the socket for nodes, in whichever directory.
const SocketName = "xds.sock"

// MaxSocket is how many bytes the path of a unix socket may have. The kernel keeps 108, with a zero
// at the end (unix(7)).
const MaxSocket = 107

// Data returns lockstepd's data directory for a user. It is /var/lib/lockstep for root, and
// $XDG_STATE_HOME/lockstep for others, which is ~/.local/state/lockstep where that is not set.
func Data(uid int, getenv func(string) string) (string, error) {
	return state(uid, getenv, "lockstep")
}

// Edge returns the directory for the last-good copy of the lockstep-edge with that node id, beside
// the place of [Data]. Each edge has one of its own.
func Edge(uid int, getenv func(string) string, node string) (string, error) {
	dir, err := state(uid, getenv, "lockstep-edge")
	return filepath.Join(dir, fileName(node)), err
}

func state(uid int, getenv func(string) string, name string) (string, error) {
	if uid == 0 {
		return filepath.Join("/var/lib", name), nil
	}
	if dir := getenv("XDG_STATE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, name), nil
	}
	if home := getenv("HOME"); filepath.IsAbs(home) {
		return filepath.Join(home, ".local", "state", name), nil
	}
	return "", fmt.Errorf("there is no place for %s: neither XDG_STATE_HOME nor HOME names a directory", name)
}

// fileName returns a node id as the name of one folder.
func fileName(node string) string {
	return strings.TrimLeft(strings.Map(func(r rune) rune {
		if r == '/' || r == 0 {
			return '-'
		}
		return r
	}, node), ".")
}

// Socket returns the path of a socket that other users may reach, in a directory of its own. That
// is the directory that systemd made for the service (RuntimeDirectory), /run/lockstep for root, or
// $XDG_RUNTIME_DIR/lockstep for others.
func Socket(uid int, getenv func(string) string) (string, error) {
	first, _, _ := strings.Cut(getenv("RUNTIME_DIRECTORY"), ":")
	switch {
	case filepath.IsAbs(first):
		return filepath.Join(first, SocketName), nil
	case uid == 0:
		return filepath.Join("/run/lockstep", SocketName), nil
	}
	if dir := getenv("XDG_RUNTIME_DIR"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "lockstep", SocketName), nil
	}
	return "", fmt.Errorf("there is no directory for a socket that others reach: XDG_RUNTIME_DIR names none")
}

// CheckSocket refuses the path of a unix socket that cannot be, in words.
func CheckSocket(path string) error {
	switch {
	case path == "":
		return fmt.Errorf("unix: has no path")
	case strings.HasPrefix(path, "@"):
		return fmt.Errorf("unix:%s is an abstract socket, which every user of the machine may open: give a path", path)
	case len(path) > MaxSocket:
		return fmt.Errorf("the path %s has %d bytes, and that of a unix socket may have %d: give a shorter one", path,
			len(path), MaxSocket)
	}
	return nil
}

// Used reports whether a lockstepd has used the directory: it has a store, a sealing key or the
// name of a replica there.
func Used(dir string) bool {
	for _, name := range []string{"store.db", "sealing.key", "replica"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
			return true
		}
	}
	return false
}

// Forgotten returns an error if the working directory has the data directory of an earlier version,
// and dir, which nobody has named, was never used. A start there would make another fleet of keys.
func Forgotten(dir string) error {
	if !Used(Before) || Used(dir) {
		return nil
	}
	if same, err := sameDir(Before, dir); err == nil && same {
		return nil
	}
	return fmt.Errorf("%s here holds the keys of a lockstepd that was started without --data-dir by an earlier "+
		"version, and %s, the place of now, is empty: give --data-dir %[1]s to go on with these keys, or "+
		"--data-dir %[2]s to begin with new ones", Before, dir)
}

func sameDir(a, b string) (bool, error) {
	var st [2]fs.FileInfo
	for i, dir := range []string{a, b} {
		var err error
		if st[i], err = os.Stat(dir); err != nil {
			return false, err
		}
	}
	return os.SameFile(st[0], st[1]), nil
}
