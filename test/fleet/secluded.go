package fleet

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
)

const secludedEnv = "LOCKSTEP_TEST_SECLUDED" // the name of the test that runs in there

// Secluded runs the test in a network namespace of its own, in which it may make boxes and cut
// links: nothing that it does reaches the machine's network. In there it returns true, with the
// loopback up. Outside it has the test binary run this one test in there, takes over the verdict,
// and returns false. Where namespaces are not allowed the test fails, and says what to type.
func Secluded(t *testing.T) bool {
	t.Helper()
	if os.Getenv(secludedEnv) == t.Name() {
		if out, err := exec.Command("ip", "link", "set", "lo", "up").CombinedOutput(); err != nil {
			t.Fatalf("fleet: the loopback of a new network namespace: %v: %s; "+
				"is iproute2 installed? type: make test-packages", err, out)
		}
		return true
	}
	out, err := rerun(t)
	t.Logf("in a network namespace of its own:\n%s", out)
	switch {
	case errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.ENOSPC):
		t.Fatalf("fleet: network namespaces are not allowed here (%v): run the tests as root, or as root type: "+
			"sysctl -w kernel.unprivileged_userns_clone=1 kernel.apparmor_restrict_unprivileged_userns=0 "+
			"user.max_user_namespaces=1000 (those that there are); in a container: docker run --privileged", err)
	case err != nil:
		t.Errorf("%v", err)
	}
	return false
}

// rerun runs the test of this name alone, as root of a namespace: as the real one where that is
// allowed, else as a user who is root only in there.
func rerun(t *testing.T) (string, error) {
	args := []string{"-test.run=^" + t.Name() + "$", "-test.v", "-test.count=1"}
	if end, ok := t.Deadline(); ok {
		args = append(args, "-test.timeout="+time.Until(end).String())
	}
	attrs := []*syscall.SysProcAttr{
		{Cloneflags: syscall.CLONE_NEWNET},
		{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWUSER,
			UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}},
			GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}}},
	}
	// The kernel sends the death signal when the thread that started the child ends.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var err error
	for _, attr := range attrs {
		var out strings.Builder
		cmd := exec.CommandContext(t.Context(), os.Args[0], args...)
		cmd.Env = append(os.Environ(), secludedEnv+"="+t.Name())
		cmd.Stdout, cmd.Stderr = &out, &out
		attr.Pdeathsig = syscall.SIGKILL
		cmd.SysProcAttr = attr
		if err = cmd.Start(); err != nil {
			continue
		}
		if err = cmd.Wait(); err == nil && !strings.Contains(out.String(), "--- PASS: "+t.Name()+" ") {
			err = errors.New("it did not run")
		}
		if err != nil {
			err = fmt.Errorf("fleet: %s in a network namespace of its own: %w", t.Name(), err)
		}
		return out.String(), err
	}
	return "", err
}
