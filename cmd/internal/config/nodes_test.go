package config

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestNodesComeToASocketThatOnlyTheOwnUserOpens(t *testing.T) {
	dir := t.TempDir()
	for _, c := range []struct {
		yaml   string
		args   []string
		listen string
		mode   fs.FileMode
		own    bool // own says that the directory is the socket's alone.
	}{
		{"", nil, "unix:" + dir + "/xds.sock", 0o600, false},
		{"xds_socket_mode: 0600\n", nil, "unix:" + dir + "/xds.sock", 0o600, false},
		{"xds_listen: unix:/elsewhere/s\n", nil, "unix:/elsewhere/s", 0o600, false},
		{"xds_socket_group: envoy\n", nil, "unix:/run/a/xds.sock", 0o660, true},
		{"xds_listen: unix:/elsewhere/s\nxds_socket_group: envoy\n", nil, "unix:/elsewhere/s", 0o660, false},
		{"policy: p\n", nil, "unix:/run/a/xds.sock", 0o666, true},
		{"policy: p\n", []string{"--xds-socket-group", "envoy"}, "unix:/run/a/xds.sock", 0o660, true},
		{"policy: p\nxds_socket_mode: \"0600\"\n", nil, "unix:/run/a/xds.sock", 0o600, true},
		{"policy: p\nxds_listen: 127.0.0.1:1\n", nil, "127.0.0.1:1", 0o666, false},
		{"xds_cert: a\nxds_key: b\nxds_client_ca: c\n", nil, "127.0.0.1:18000", 0o600, false},
		{"", []string{"--xds-open"}, "127.0.0.1:18000", 0o600, false},
		{"xds_open: true\npolicy: p\n", nil, "unix:/run/a/xds.sock", 0o666, true},
	} {
		got, err := load(t, c.yaml, map[string]string{"RUNTIME_DIRECTORY": "/run/a"},
			append(c.args, "--data-dir", dir)...)
		if err != nil || got.XDSListen != c.listen || got.SocketMode() != c.mode || got.OwnSocketDir() != c.own {
			t.Errorf("%q %q: %s %v %v, %v", c.yaml, c.args, got.XDSListen, got.SocketMode(), got.OwnSocketDir(), err)
		}
		if open := strings.Contains(strings.Join(c.args, ""), "open"); got.OpenToAll() != open {
			t.Errorf("%q %q: open to all: %v", c.yaml, c.args, got.OpenToAll())
		}
	}
}

func TestWhatWouldGiveKeysToStrangersOrToNobodyIsRefusedInWords(t *testing.T) {
	dir := t.TempDir()
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(dir, link); err != nil {
		t.Fatal(err)
	}
	long := "/" + strings.Repeat("a", 107)
	for _, c := range []struct{ yaml, want string }{
		{"xds_listen: 127.0.0.1:1\n", "every user of this machine would get every private key; leave xds_listen out"},
		{"xds_listen: 127.0.0.1:1\n", "--xds-open"},
		{"xds_listen: 0.0.0.0:1\nxds_open: true\n", "plaintext is refused there"},
		{"xds_listen: unix:/elsewhere/s\nxds_socket_mode: 0666\n", "no policy"},
		{"xds_socket_mode: 0660\n", "in the data directory, which only lockstepd's user may enter"},
		{"xds_listen: unix:" + dir + "/s\nxds_socket_group: envoy\n", "give the socket a directory of its own"},
		{"xds_listen: unix:" + dir + "/below/s\nxds_socket_group: envoy\n", "in the data directory"},
		{"xds_listen: unix:" + link + "/s\nxds_socket_group: envoy\n", "in the data directory"},
		{"xds_listen: 127.0.0.1:1\nxds_open: true\nxds_socket_group: envoy\n", "are for a socket"},
		{"xds_socket_mode: rw\n", "no mode such as 0660"},
		{"xds_socket_mode: \"0060\"\n", "the owner reads and writes"},
		{"xds_listen: unix:" + long + "\n", "xds_listen: the path " + long + " has 108 bytes, and that of a unix " +
			"socket may have 107"},
		{"admin_listen: unix:" + long + "\n", "admin_listen: the path"},
		{"data_dir: " + long + "\n", "xds_listen: the path " + long + "/xds.sock has 117 bytes"},
		{"xds_listen: unix:@name\n", "abstract"},
	} {
		args := []string{"--data-dir", dir}
		if strings.HasPrefix(c.yaml, "data_dir") {
			args = nil
		}
		if _, err := load(t, c.yaml, nil, args...); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: %v, want %q", c.yaml, err, c.want)
		}
	}
}
