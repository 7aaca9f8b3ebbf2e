package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/lockstep-tls/lockstep/test/fleet"
)

// spyOn is the environment variable by which this program is asked to read another's memory.
const spyOn = "LOCKSTEP_TEST_SPY_ON"

// spy tries each way by which a process of the same user could get at another's memory, and prints
// those that work.
func spy(pid int) {
	if pid == 0 { // it is the one to be looked at
		time.Sleep(patience)
	}
	runtime.LockOSThread() // ptrace is by thread
	proc := fmt.Sprintf("/proc/%d/", pid)
	for _, file := range []string{"mem", "environ", "maps"} {
		f, err := os.Open(proc + file)
		if err != nil {
			continue
		}
		f.Close()
		fmt.Print(file, " ")
	}
	word := make([]byte, 8)
	local := []unix.Iovec{{Base: &word[0], Len: 8}}
	_, err := unix.ProcessVMReadv(pid, local, []unix.RemoteIovec{{Base: 0x400000, Len: 8}}, 0)
	if !errors.Is(err, unix.EPERM) {
		fmt.Print("process_vm_readv ")
	}
	if unix.PtraceAttach(pid) == nil {
		var status unix.WaitStatus
		_, _ = unix.Wait4(pid, &status, unix.WALL, nil) // it stops first
		_ = unix.PtraceDetach(pid)
		fmt.Print("ptrace ")
	}
}

// commoner is a user without rights, and a folder that belongs to it. It has copies of the
// programs, since others may not be able to enter the folders that these are in.
type commoner struct {
	t    *testing.T
	dir  string
	cred *syscall.Credential
}

func newCommoner(t *testing.T) commoner {
	t.Helper()
	dir, err := os.MkdirTemp("", "lockstep-process-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	c := commoner{t: t, dir: dir}
	if os.Getuid() == 0 {
		const uid = 54321
		c.cred = &syscall.Credential{Uid: uid, Gid: uid}
		if err := os.Chown(dir, uid, uid); err != nil {
			t.Fatal(err)
		}
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for name, from := range map[string]string{
		"spy": self, "lockstepd": filepath.Join(bin, "lockstepd"), "lockstep-edge": filepath.Join(bin, "lockstep-edge"),
	} {
		if err := exec.Command("cp", from, filepath.Join(dir, name)).Run(); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

// start runs a program as the user, in its folder, with no limit on the size of a core.
func (c commoner) start(env []string, program string, args ...string) *exec.Cmd {
	c.t.Helper()
	line := append([]string{"-c", `ulimit -c unlimited && exec "$0" "$@"`, filepath.Join(c.dir, program)}, args...)
	cmd := exec.Command("/bin/bash", line...)
	cmd.Dir, cmd.Env = c.dir, append(os.Environ(), env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: c.cred, Setpgid: true}
	log, err := os.Create(filepath.Join(c.dir, program+".log"))
	if err != nil {
		c.t.Fatal(err)
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		_ = cmd.Wait()
		if c.t.Failed() {
			c.t.Logf("%s:\n%s", program, c.log(program))
		}
	})
	return cmd
}

func (c commoner) log(program string) string {
	b, _ := os.ReadFile(filepath.Join(c.dir, program+".log"))
	return string(b)
}

// spies returns the ways by which another process of the user gets at the memory of pid.
func (c commoner) spies(pid int) string {
	c.t.Helper()
	cmd := exec.Command(filepath.Join(c.dir, "spy"))
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%d", spyOn, pid))
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: c.cred}
	out, err := cmd.Output()
	if err != nil {
		c.t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

// dumps ends the program by a signal for which the kernel writes a core, and reports whether it
// did.
func (c commoner) dumps(cmd *exec.Cmd) bool {
	c.t.Helper()
	if err := cmd.Process.Signal(syscall.SIGABRT); err != nil {
		c.t.Fatal(err)
	}
	late := time.AfterFunc(patience/3, func() { _ = cmd.Process.Kill() })
	_ = cmd.Wait() // it was killed
	if !late.Stop() {
		c.t.Error("the program outlived SIGABRT")
	}
	cores, err := filepath.Glob(filepath.Join(c.dir, "core*"))
	if err != nil {
		c.t.Fatal(err)
	}
	for _, core := range cores {
		os.Remove(core)
	}
	return cmd.ProcessState.Sys().(syscall.WaitStatus).CoreDump() || len(cores) > 0
}

// TestNoOtherProcessReadsTheMemory: another process of the same user reads neither the memory nor
// the environment of lockstepd and lockstep-edge, and no core is written when they crash. A program
// without that protection shows that the test could see it. An edge that hands over does so still,
// and its successor is protected, too.
func TestNoOtherProcessReadsTheMemory(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	c := newCommoner(t)
	crash := []string{"GOTRACEBACK=crash"} // a Go program then ends by SIGABRT as C programs do
	addr := func() string {
		a, err := fleet.Addr()
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	until := func(check func() error) {
		t.Helper()
		if err := fleet.Until(ctx, check); err != nil {
			t.Fatal(err)
		}
	}
	get := func(url string) (body string, err error) {
		resp, err := http.Get(url)
		if err != nil {
			return "", err
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err == nil && resp.StatusCode != http.StatusOK {
			err = errors.New(resp.Status)
		}
		return string(b), err
	}

	open := c.start(append(crash, spyOn+"=0"), "spy")
	until(func() error {
		if seen := c.spies(open.Process.Pid); !strings.Contains(seen, "environ") || !strings.Contains(seen, "maps") {
			return fmt.Errorf("an unprotected process is seen by %q alone", seen)
		}
		return nil
	})
	t.Logf("an unprotected process is seen by: %s", c.spies(open.Process.Pid))
	canDump := c.dumps(open)
	t.Logf("an unprotected process leaves a core: %v", canDump)

	xds, planeAdmin, edgeAdmin := addr(), addr(), addr()
	plane := c.start(crash, "lockstepd", "--data-dir", filepath.Join(c.dir, "data"),
		"--xds-listen", xds, "--xds-open", "--admin-listen", planeAdmin)
	var metrics string
	until(func() (err error) { metrics, err = get("http://" + planeAdmin + "/metrics"); return err })
	if !strings.Contains(metrics, "process_open_fds") {
		t.Error("lockstepd does not see its own descriptors")
	}
	startEdge := func(admin string) *exec.Cmd {
		config := filepath.Join(c.dir, "edge.yaml")
		if err := os.WriteFile(config, fmt.Appendf(nil, "node: edge-1\nxds: %s\nadmin_listen: %s\nlisteners:\n"+
			"- address: %s\n  scope: default\nroutes:\n- host: '*'\n  path: /\n  upstreams: ['http://127.0.0.1:1']\n",
			xds, admin, addr()), 0o644); err != nil {
			t.Fatal(err)
		}
		edge := c.start(crash, "lockstep-edge", "--config", config)
		until(func() error { _, err := get("http://" + admin + "/readyz"); return err })
		return edge
	}
	edge := startEdge(edgeAdmin)

	if err := edge.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	successor := 0
	until(func() error {
		for line := range strings.Lines(c.log("lockstep-edge")) {
			var said struct {
				Msg string
				PID int
			}
			if json.Unmarshal([]byte(line), &said) == nil && said.Msg == "a new process has taken over" {
				successor = said.PID
				return nil
			}
		}
		return errors.New("no new process has taken over")
	})
	for name, pid := range map[string]int{"lockstepd": plane.Process.Pid, "the edge that took over": successor} {
		if owner, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid)); err != nil || c.cred != nil &&
			!bytes.Contains(owner, []byte("\nUid:\t"+strconv.Itoa(int(c.cred.Uid))+"\t")) {
			t.Errorf("%s is not of the user: %v", name, err)
		}
		if seen := c.spies(pid); seen != "" {
			t.Errorf("another process of the user gets at the memory of %s by: %s", name, seen)
		}
	}
	until(func() error { _, err := get("http://" + edgeAdmin + "/readyz"); return err })
	if !canDump {
		return
	}
	if c.dumps(startEdge(addr())) {
		t.Error("lockstep-edge leaves a core")
	}
	if c.dumps(plane) {
		t.Error("lockstepd leaves a core")
	}
}
