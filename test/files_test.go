package test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// tracked are the files of the checkout.
func tracked(t *testing.T) []string {
	t.Helper()
	out, err := exec.Command("git", "-C", "..", "ls-files", "-z").Output()
	if err != nil {
		t.Skip("not a git checkout")
	}
	return strings.Split(strings.TrimSuffix(string(out), "\x00"), "\x00")
}

// A built program was in the repository once, for weeks.
func TestNoBuiltProgramIsTracked(t *testing.T) {
	top := strings.Fields(".gitignore ARCHITECTURE.md CHANGELOG.md CONTRIBUTING.md LICENSE Makefile README.md " +
		"SECURITY.md go.mod go.sum")
	for _, f := range tracked(t) {
		if !strings.Contains(f, "/") && !slices.Contains(top, f) {
			t.Errorf("%s: this does not stand at the top", f)
		}
		st, err := os.Lstat(filepath.Join("..", f))
		if err == nil && st.Size() > 1<<20 {
			t.Errorf("%s has %d bytes, 1 MiB is the most", f, st.Size())
		}
	}
}

// What is written whole or not at all is written by one package, which syncs the folder, too.
func TestFilesAreWrittenByAtomicfileAlone(t *testing.T) {
	except := map[string]string{
		"internal/atomicfile/atomicfile.go": "it is the one",
		"cmd/lockstep-edge/profile.go":      "built for a profile only",
		"cmd/internal/failpoint/on.go":      "built for tests only",
	}
	writes := regexp.MustCompile(`\bos\.(WriteFile|Rename|CreateTemp|Create|Link)\(`)
	for _, f := range tracked(t) {
		if !strings.HasSuffix(f, ".go") || strings.HasSuffix(f, "_test.go") ||
			strings.HasPrefix(f, "test/") || except[f] != "" {
			continue
		}
		b, err := os.ReadFile(filepath.Join("..", f))
		if err != nil {
			continue // removed, and not committed yet
		}
		if call := writes.Find(b); call != nil {
			t.Errorf("%s calls %s): use internal/atomicfile", f, call)
		}
	}
}
