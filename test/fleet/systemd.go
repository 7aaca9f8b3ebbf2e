package fleet

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Systemd is one that runs the units of deploy/systemd, byte for byte, and no others. It is the
// first process of namespaces of its own, but for that of the network, which [Secluded] makes, on a
// root of its own: of the machine it and its services see /usr, to read. Nothing of it outlives the
// test, but for an empty cgroup where the test was killed.
type Systemd struct {
	process *Process
	bin     string         // the folder of the programs
	dir     string         // of its files
	users   map[string]int // their ids, and those of their groups
	cgroup  string
}

//go:embed systemd.sh
var systemdScript string

const systemdPath = "/lib/systemd/systemd"

// NoSystemd says why there can be no [Systemd] here; nil: there can.
func NoSystemd() error {
	if os.Getuid() != 0 {
		return errors.New("systemd has to be root: run the tests as root")
	}
	if _, err := os.Stat(systemdPath); err != nil {
		return fmt.Errorf("systemd is not installed: type: make test-packages (%w)", err)
	}
	cgroup, err := newCgroup()
	if err != nil {
		return fmt.Errorf("systemd needs a cgroup of its own (in a container: docker run --privileged): %w", err)
	}
	return os.Remove(cgroup)
}

// Systemd starts one, and waits until it is there. Its services run programs of bin, from [Build].
// The caller closes it.
func (f *Fleet) Systemd(ctx context.Context, bin string) (*Systemd, error) {
	s := &Systemd{bin: bin, dir: filepath.Join(f.dir, "systemd"), users: map[string]int{}}
	if err := s.furnish(); err != nil {
		return nil, fmt.Errorf("fleet: the files of systemd: %w", err)
	}
	var err error
	if s.cgroup, err = newCgroup(); err != nil {
		return nil, fmt.Errorf("fleet: the cgroup of systemd: %w", err)
	}
	s.process, err = f.Start(Command{
		Name: "systemd", Path: "/bin/sh", Args: []string{"-c", systemdScript, "systemd", s.dir, s.cgroup},
		apart: syscall.CLONE_NEWPID | syscall.CLONE_NEWNS | syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC,
	})
	if err != nil {
		return nil, errors.Join(err, os.Remove(s.cgroup))
	}
	err = Until(ctx, func() error {
		_, err := s.Ctl(ctx, "is-system-running")
		return err
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("fleet: systemd does not start: %w; it says: %s",
			err, s.process.LogTail(20)), s.Close())
	}
	return s, nil
}

// Close kills it, and with it all that it runs.
func (s *Systemd) Close() error {
	if err := s.process.Kill(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	// what has died leaves it a moment later
	return Until(ctx, func() error { return removeCgroup(s.cgroup) })
}

// Ctl runs systemctl and returns what it prints.
func (s *Systemd) Ctl(ctx context.Context, args ...string) (string, error) {
	return s.Run(ctx, "systemctl", args...)
}

// Run runs a program as root among its services, and returns what it prints.
func (s *Systemd) Run(ctx context.Context, program string, args ...string) (string, error) {
	args = append([]string{"--target", strconv.Itoa(s.process.PID()), "--mount", "--pid", "--", program}, args...)
	out, err := (&Fleet{dir: s.dir}).Run(ctx, "nsenter", args...)
	return strings.TrimSpace(string(out)), err
}

// Show is a property of a unit, "" where there is none of that name.
func (s *Systemd) Show(ctx context.Context, unit, property string) (string, error) {
	return s.Ctl(ctx, "show", "--value", "--property", property, unit)
}

// Path is where its file is for us: one below /etc, /usr/local, /var/lib or /var/log. What a
// service prints is in /var/log/<unit>.log.
func (s *Systemd) Path(file string) string { return filepath.Join(s.dir, file) }

// Inside is where we find a file of its root that is not in a folder of Path, such as one of /run.
func (s *Systemd) Inside(file string) string {
	return filepath.Join(fmt.Sprintf("/proc/%d/root", s.process.PID()), file)
}

// Proc is where we find /proc/<pid> of a process that it runs.
func (s *Systemd) Proc(pid string) string {
	return filepath.Join("/proc", strconv.Itoa(s.process.PID()), "root/proc", pid)
}
