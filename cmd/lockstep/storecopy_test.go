package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestFilesOfAnInterruptedCopyAreReplacedAndAKeyIsNot(t *testing.T) {
	from, to := t.TempDir(), t.TempDir()
	put := func(dir, name, text string) {
		t.Helper()
		must(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	put(from, "sealing.key", "k")
	put(from, "generations.json", `{"default":9}`)
	put(from, "replica", "r")
	put(to, "sealing.key", "k")
	put(to, "generations.json", `{"default":7}`) // from before it was interrupted
	must(t, copyFiles(from, to))
	for name, want := range map[string]string{"sealing.key": "k", "generations.json": `{"default":9}`, "replica": "r"} {
		b, err := os.ReadFile(filepath.Join(to, name))
		if err != nil || string(b) != want {
			t.Errorf("%s: %q, %v", name, b, err)
		}
		if fi, err := os.Stat(filepath.Join(to, name)); err != nil || fi.Mode().Perm() != 0o600 {
			t.Errorf("%s: mode %v", name, fi.Mode())
		}
	}
	if left, _ := os.ReadDir(to); len(left) != 3 {
		t.Errorf("left over: %v", left)
	}
	put(to, "sealing.key", "another")
	if err := copyFiles(from, to); err == nil || !strings.Contains(err.Error(), "another sealing key") {
		t.Errorf("%v", err)
	}
	if b, _ := os.ReadFile(filepath.Join(to, "sealing.key")); string(b) != "another" {
		t.Error("somebody's key was overwritten")
	}
}
