// Package checktest is what the tests of `lockstepd --check` and `lockstep-edge --check` share.
package checktest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lockstep-tls/lockstep/internal/atomicfile"
	"github.com/lockstep-tls/lockstep/internal/testkit"
)

// Write writes a file below dir, with its folders, and returns its path. DIR in text stands for
// dir.
func Write(t testing.TB, dir, name, text string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	testkit.Check(t, os.MkdirAll(filepath.Dir(path), 0o700))
	testkit.Check(t, atomicfile.Write(path, []byte(strings.ReplaceAll(text, "DIR", dir)), 0o600))
	return path
}

// refused is the exit code of a check that says that a start would be refused.
const refused = 5

// Agree checks that a check ends with code and changes nothing below dir, and that start fails if
// and only if the check says so. The check must say every line with which the start fails, and
// says. DIR in says stands for dir. Agree returns what the check printed.
func Agree(t testing.TB, dir string, code int, says []string, check func() (string, int), start func() error) string {
	t.Helper()
	before := testkit.Tree(t, dir)
	out, got := check()
	if after := testkit.Tree(t, dir); after != before {
		t.Errorf("the check has changed\n%s\nto\n%s", before, after)
	}
	err := start()
	if got != code || (err != nil) != (code == refused) {
		t.Errorf("the check ends with %d, want %d; the start says %v; the check:\n%s", got, code, err, out)
	}
	var want []string
	for _, words := range says {
		want = append(want, strings.ReplaceAll(words, "DIR", dir))
	}
	if err != nil {
		want = append(want, strings.Split(err.Error(), "\n")...)
	}
	for _, line := range want {
		if !strings.Contains(out, line) {
			t.Errorf("the check does not say %q:\n%s", line, out)
		}
	}
	return out
}
