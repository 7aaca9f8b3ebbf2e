package e2e

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/lockstep-tls/lockstep/test/fleet"
)

var versionLine = regexp.MustCompile(`^(\S+) version (\S+), commit (\S+), (go\S+)\n$`)

// TestEachProgramSaysWhichBuildItIs: with --version, and the servers in their metrics.
func TestEachProgramSaysWhichBuildItIs(t *testing.T) {
	t.Parallel()
	s := newStage(t, setup{})
	e := s.edge("edge-1", "")
	s.awaitReady()
	head, err := exec.Command("git", "rev-parse", "HEAD").Output()
	if err != nil {
		t.Skip("not a git checkout")
	}
	var metric string
	for _, program := range []string{"lockstepd", "lockstep", "lockstep-edge"} {
		out, err := s.fleet.Run(s.ctx, filepath.Join(bin, program), "--version")
		s.ok(err)
		m := versionLine.FindStringSubmatch(string(out))
		if m == nil || m[1] != program {
			t.Fatalf("%s --version: %q", program, out)
		}
		if commit := strings.TrimSuffix(m[3], "-dirty"); len(commit) != 12 || !strings.HasPrefix(string(head), commit) {
			t.Errorf("%s is of commit %s, the checkout is at %s", program, m[3], head)
		}
		metric = fmt.Sprintf("lockstep_build_info{commit=%q,go=%q,version=%q} 1\n", m[3], m[4], m[2])
	}
	for _, admin := range []string{s.plane.Admin, e.admin} {
		resp, err := http.Get("http://" + admin + "/metrics")
		s.ok(err)
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		s.ok(err)
		if !strings.Contains(string(body), metric) {
			t.Errorf("the metrics of %s lack %s", admin, metric)
		}
	}
}

// TestAProgramThatIsBuiltOutsideGitSaysThatNothingIsKnown: an archive of the sources builds, too.
func TestAProgramThatIsBuiltOutsideGitSaysThatNothingIsKnown(t *testing.T) {
	t.Parallel()
	root, err := fleet.Root()
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("git", "-C", root, "ls-files", "-z").Output()
	if err != nil {
		t.Skip("not a git checkout")
	}
	dir := t.TempDir()
	for file := range strings.SplitSeq(strings.TrimSuffix(string(out), "\x00"), "\x00") {
		text, err := os.ReadFile(filepath.Join(root, file))
		if err != nil {
			continue // removed, and not committed yet
		}
		to := filepath.Join(dir, file)
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(to, text, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), filepath.Join(dir, "test", "build"), "lockstep")
	cmd.Env = append(os.Environ(), "GIT_CEILING_DIRECTORIES="+filepath.Dir(dir))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("test/build: %v\n%s", err, out)
	}
	words, err := exec.CommandContext(t.Context(), filepath.Join(dir, "bin", "lockstep"), "--version").Output()
	if err != nil {
		t.Fatal(err)
	}
	if m := versionLine.FindStringSubmatch(string(words)); m == nil || m[2] != "(devel)" || m[3] != "unknown" {
		t.Errorf("lockstep --version: %q", words)
	}
}
