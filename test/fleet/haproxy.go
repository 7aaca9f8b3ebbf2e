package fleet

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// HAProxy starts deploy/haproxy/haproxy.cfg on listen, in front of two nodes. It looks at them more
// often than the file says.
func (f *Fleet) HAProxy(listen string, nodes [2]string) (*Process, error) {
	path, err := exec.LookPath("haproxy")
	if err != nil {
		path = "/usr/sbin/haproxy" // it is not on every PATH
	}
	if _, err := os.Stat(path); err != nil {
		return nil, fmt.Errorf("fleet: HAProxy is not installed: type: make test-packages (%w)", err)
	}
	root, err := Root()
	if err != nil {
		return nil, err
	}
	b, err := os.ReadFile(filepath.Join(root, "deploy", "haproxy", "haproxy.cfg"))
	if err != nil {
		return nil, fmt.Errorf("fleet: %w", err)
	}
	config := string(b)
	for _, change := range [][2]string{
		{"bind 127.0.0.1:443\n", "bind " + listen + "\n"}, {"inter 2s", "inter 200ms"},
		{"10.0.0.11:8443\n", nodes[0] + "\n"}, {"10.0.0.12:8443\n", nodes[1] + "\n"},
	} {
		if strings.Count(config, change[0]) != 1 {
			return nil, fmt.Errorf("fleet: deploy/haproxy/haproxy.cfg has not %q once", change[0])
		}
		config = strings.Replace(config, change[0], change[1], 1)
	}
	file := filepath.Join(f.dir, "haproxy.cfg")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		return nil, fmt.Errorf("fleet: configuration of HAProxy: %w", err)
	}
	return f.Start(Command{Name: "haproxy", Path: path, Args: []string{"-f", file, "-db"}})
}
