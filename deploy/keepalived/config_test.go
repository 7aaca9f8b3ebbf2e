// Package keepalived_test runs the configuration through keepalived. What it does is tested in
// test/e2e.
package keepalived_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

func TestConfigIsValid(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("keepalived trusts no script when somebody else than root runs it: run the tests as root")
	}
	keepalived, err := exec.LookPath("keepalived")
	if err != nil {
		t.Fatalf("keepalived is not installed: type: make test-packages (%v)", err)
	}
	config, err := os.ReadFile("keepalived.conf")
	if err != nil {
		t.Fatal(err)
	}
	// The script is installed elsewhere, and keepalived 2.2.7 ends its own --config-test when it
	// looks for it as another user.
	for old, new := range map[string]string{
		"/etc/keepalived/lockstep-ready": "/bin/true", "script_user nobody nogroup": "script_user root",
	} {
		if !bytes.Contains(config, []byte(old)) {
			t.Fatalf("there is no %q in it", old)
		}
		config = bytes.ReplaceAll(config, []byte(old), []byte(new))
	}
	file := filepath.Join(t.TempDir(), "keepalived.conf")
	if err := os.WriteFile(file, config, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"edge-1", "edge-2"} {
		out, err := exec.Command(keepalived, "--config-test", "--config-id", id, "--use-file", file).CombinedOutput()
		if err != nil || len(out) > 0 {
			t.Errorf("on %s: %v\n%s", id, err, out)
		}
	}
}
