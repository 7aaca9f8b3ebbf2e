package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lockstep-tls/lockstep/cmd/internal/check"
)

// The exit codes are those of the CLI. A script tells wrong use from a refused configuration.
func TestExitCodesOfACheck(t *testing.T) {
	t.Setenv("LOCKSTEP_CONFIG", "")
	data := filepath.Join(t.TempDir(), "data")
	bad := filepath.Join(t.TempDir(), "bad.yaml")
	if err := os.WriteFile(bad, []byte("refresh: soon\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{"--check", "--data-dir", data}, 0, "a start would go on"},
		{[]string{"--check", "--data-dir", data, "--refresh", "1ms"}, 5, "refused: --refresh: refresh: 1ms"},
		{[]string{"--check", "--config", bad}, 5, "refused: " + bad + ":1: refresh"},
		{[]string{"--check", "--config", bad + ".none"}, 5, "no such file"},
		{[]string{"--check", "--refresh", "soon"}, 2, ""},
		{[]string{"--check", "--nonsense"}, 2, ""},
		{[]string{"--check", "more"}, 2, ""},
		{[]string{"--nonsense"}, 1, ""},
	} {
		var out bytes.Buffer
		cmd := command()
		cmd.SetArgs(c.args)
		cmd.SetOut(&out)
		code := 0
		if err := cmd.ExecuteContext(t.Context()); err != nil {
			code = check.ExitCode(err, c.args)
		}
		if code != c.code || !strings.Contains(out.String(), c.says) {
			t.Errorf("%q: %d, want %d:\n%s", c.args, code, c.code, &out)
		}
	}
	if _, err := os.Stat(data); !os.IsNotExist(err) {
		t.Errorf("the data directory: %v", err)
	}
}
