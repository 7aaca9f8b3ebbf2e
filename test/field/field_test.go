// Package field runs cases from the world: what people's files, clients, servers and networks do,
// on the built programs and on programs that are not ours. A case is a script, which lib.sh begins
// and which says what is right. The quick ones are tests; `make field` runs all of them.
package field

import (
	"context"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/lockstep-tls/lockstep/test/fleet"
)

const skipped = 77 // skipped is the exit code of a case that lacks a program.

func TestQuickCasesAreRight(t *testing.T) {
	t.Parallel()
	bin, err := fleet.Build(t.Context(), "lockstepd", "lockstep", "lockstep-edge")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range quick(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			words, code := run(t, bin, name+".sh")
			switch {
			case code == 0 && strings.Contains(words, "RIGHT: "):
			case code == skipped && strings.Contains(words, "SKIP: "):
				t.Skip(words)
			default:
				t.Errorf("exit code %d; alone: test/field/run %s\n%s", code, name, words)
			}
		})
	}
}

// run runs a script, and returns what it printed and its exit code.
func run(t *testing.T, bin, script string) (words string, code int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	c := exec.CommandContext(ctx, "bash", "./"+script)
	c.Env = append(os.Environ(), "LOCKSTEP_BIN="+bin, "TMPDIR="+os.TempDir())
	// The script ends what it started when it is asked to end.
	c.Cancel = func() error { return c.Process.Signal(syscall.SIGTERM) }
	c.WaitDelay = 20 * time.Second
	out, err := c.CombinedOutput()
	if c.ProcessState == nil {
		t.Fatal(err)
	}
	return string(out), c.ProcessState.ExitCode()
}

// quick are the cases that are listed in the file of that name.
func quick(t *testing.T) (names []string) {
	t.Helper()
	list, err := os.ReadFile("quick")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(list)) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			names = append(names, line)
		}
	}
	if len(names) == 0 {
		t.Fatal("the file quick lists no case")
	}
	return names
}

// A script that says WRONG, that breaks, or that checks nothing must not pass.
func TestACaseThatIsNotRightIsSeen(t *testing.T) {
	t.Parallel()
	for script, want := range map[string]struct {
		code  int
		words string
	}{
		`. lib; check sum $((1 + 1)) 3; verdict`: {1, "WRONG: sum: [2], not [3]"},
		`. lib; check sum $((1 + 1)) 2; verdict`: {0, "RIGHT: sum"},
		`. lib; verdict`:                         {1, "WRONG: the case has checked nothing"},
		`. lib; need no-such-program; verdict`:   {skipped, "SKIP: no-such-program is not here"},
		`. lib; echo $unknown; right`:            {1, "unbound variable"},
	} {
		file := t.TempDir() + "/case.sh"
		lib, err := os.Getwd()
		if err != nil {
			t.Fatal(err)
		}
		script = strings.Replace(script, ". lib", ". "+lib+"/lib.sh", 1)
		if err := os.WriteFile(file, []byte(script), 0o600); err != nil {
			t.Fatal(err)
		}
		c := exec.Command("bash", file)
		out, _ := c.CombinedOutput()
		if code := c.ProcessState.ExitCode(); code != want.code || !strings.Contains(string(out), want.words) {
			t.Errorf("%s\nends with %d and says %q, want %d and %q", script, code, out, want.code, want.words)
		}
	}
}
