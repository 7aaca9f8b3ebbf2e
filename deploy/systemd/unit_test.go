// Package systemd_test runs the units through systemd-analyze.
package systemd_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// Keys are in memory: it is neither dumped nor swapped. A program that ends is started again,
// whatever it ended with.
func TestUnitsKeepMemoryFromTheDiskAndComeBack(t *testing.T) {
	for _, name := range []string{"lockstepd.service", "lockstep-edge.service"} {
		unit, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range []string{"LimitCORE=0", "MemorySwapMax=0", "Restart=always"} {
			if !bytes.Contains(unit, []byte("\n"+line+"\n")) {
				t.Errorf("%s lacks %s", name, line)
			}
		}
	}
}

func TestUnitsAreValidAndConfined(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("systemd-analyze is not installed (apt-get install systemd)")
	}
	dir := t.TempDir()
	files := map[string]string{} // by unit
	for _, name := range []string{"lockstepd.service", "lockstep-edge.service", "lockstep-edge.socket"} {
		unit, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		// Verify looks for the programs, which are installed elsewhere.
		for _, program := range []string{"/usr/local/bin/lockstepd", "/usr/local/bin/lockstep-edge"} {
			unit = bytes.ReplaceAll(unit, []byte(program), []byte("/bin/true"))
		}
		files[name] = filepath.Join(dir, name)
		if err := os.WriteFile(files[name], unit, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for name, file := range files {
		out, err := exec.Command(analyze, "verify", file).CombinedOutput()
		if err != nil || len(out) > 0 { // unknown keys are warnings with status 0
			t.Errorf("verify %s: %v\n%s", name, err, out)
		}
		if filepath.Ext(name) != ".service" {
			continue
		}
		// The threshold is ten times the exposure level: 1.2 of 10. What an unconfined service has
		// is 9.6.
		out, err = exec.Command(analyze, "security", "--offline=true",
			"--threshold=12", "--no-pager", file).CombinedOutput()
		if err != nil {
			t.Errorf("security of %s: %v\n%s", name, err, out)
		}
	}
}
