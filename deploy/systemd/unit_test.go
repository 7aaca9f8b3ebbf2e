// Package systemd_test runs the units through systemd-analyze.
package systemd_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

func TestUnitIsValidAndConfined(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("systemd-analyze is not installed (apt-get install systemd)")
	}
	unit, err := os.ReadFile("lockstepd.service")
	if err != nil {
		t.Fatal(err)
	}
	// Verify looks for the program, which is installed elsewhere.
	unit = bytes.ReplaceAll(unit, []byte("/usr/local/bin/lockstepd"), []byte("/bin/true"))
	file := filepath.Join(t.TempDir(), "lockstepd.service")
	if err := os.WriteFile(file, unit, 0o644); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(analyze, "verify", file).CombinedOutput()
	if err != nil || len(out) > 0 { // unknown keys are warnings with status 0
		t.Errorf("verify: %v\n%s", err, out)
	}
	// The threshold is ten times the exposure level: 2.0 of 10. What an unconfined service has is 9.6.
	out, err = exec.Command(analyze, "security", "--offline=true", "--threshold=20", "--no-pager", file).CombinedOutput()
	if err != nil {
		t.Errorf("security: %v\n%s", err, out)
	}
}
