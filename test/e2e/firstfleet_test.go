package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-tls/lockstep/test/fleet"
	"github.com/lockstep-tls/lockstep/test/pages"
)

// TestTheTutorialWorks types what docs/first-fleet.md tells its reader to type, into one shell, in
// a network of its own, since the page names ports. What the page has make build is there already.
func TestTheTutorialWorks(t *testing.T) {
	if !fleet.Secluded(t) {
		return
	}
	root, f := pages.Root(t), fleet.ForTest(t)
	text, err := os.ReadFile(filepath.Join(root, "docs/first-fleet.md"))
	if err != nil {
		t.Fatal(err)
	}
	envoy, err := fleet.EnvoyPath()
	if err != nil {
		t.Fatal(err)
	}
	for link, to := range map[string]string{"bin": bin, ".envoy": filepath.Dir(envoy)} {
		if err := os.Symlink(to, filepath.Join(f.Dir(), link)); err != nil {
			t.Fatal(err)
		}
	}
	// Each block leaves what it printed in a file of its own. The shell ends at the first command
	// that fails.
	script := "set -eu\nmake() { test -d bin && test -x .envoy/envoy; }\n"
	blocks := 0
	for _, b := range pages.Parse("first-fleet.md", text).Blocks {
		if b.Lang != "sh" {
			continue
		}
		blocks++
		script += "{\n" + b.Text + "} > block." + string(rune('a'+blocks-1)) + "\n"
	}
	file := filepath.Join(f.Dir(), "type")
	if err := os.WriteFile(file, []byte(script+"echo > finished\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	shell, err := f.Start(fleet.Command{Name: "shell", Path: "/bin/bash", Args: []string{file}})
	if err != nil {
		t.Fatal(err)
	}
	select {
	case <-shell.Done():
	case <-time.After(2 * time.Minute):
		t.Error("the commands take longer than two minutes")
	}
	said := func(block rune) string {
		b, _ := os.ReadFile(filepath.Join(f.Dir(), "block."+string(block)))
		return string(b)
	}
	if _, err := os.Stat(filepath.Join(f.Dir(), "finished")); err != nil {
		for i := range blocks {
			t.Logf("block %d printed:\n%s", i+1, said(rune('a'+i)))
		}
		t.Fatal("a command of docs/first-fleet.md failed: the log has its words")
	}
	for _, want := range []struct {
		block rune
		words []string
	}{
		{'d', []string{"ok"}},
		{'e', []string{"default", "encrypt", "shop.example"}},
		{'f', []string{"hello\nhello\n", "edge-1", "edge-2", "live", "accepted"}},
		{'g', []string{"127.0.0.1:8443", "127.0.0.1:8444"}},
		{'h', []string{"promoting", "first rotation"}},
		{'i', []string{"blog.example", "store"}},
	} {
		for _, w := range want.words {
			if !strings.Contains(said(want.block), w) {
				t.Errorf("block %c did not print %q:\n%s", want.block, w, said(want.block))
			}
		}
	}
}
