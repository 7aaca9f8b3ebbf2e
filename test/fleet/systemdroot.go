package fleet

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// furnish writes the files that are there before it starts: the units, the targets that they refer
// to, the users that they name, and the programs.
func (s *Systemd) furnish() error {
	root, err := Root()
	if err != nil {
		return err
	}
	const units = "etc/systemd/system/"
	files := map[string]string{
		// without one it would enable every unit
		"etc/machine-id":             strings.Repeat("1", 32) + "\n",
		units + "service.d/log.conf": "[Service]\nStandardOutput=append:/var/log/%N.log\nStandardError=inherit\n",
		"etc/passwd":                 "root:x:0:0::/:/bin/sh\n",
		"etc/group":                  "root:x:0:\n",
	}
	for _, name := range []string{"sysinit", "basic", "sockets", "network-online", "multi-user", "shutdown"} {
		files[units+name+".target"] = "[Unit]\nDefaultDependencies=no\n"
	}
	deployed, err := filepath.Glob(filepath.Join(root, "deploy", "systemd", "lockstep*"))
	if err != nil {
		return err
	}
	for _, unit := range deployed {
		b, err := os.ReadFile(unit)
		if err != nil {
			return err
		}
		files[units+filepath.Base(unit)] = string(b)
		if user := regexp.MustCompile(`(?m)^User=(.+)$`).FindSubmatch(b); user != nil {
			name, id := string(user[1]), 59990+len(s.users) // of nobody else, on most machines
			s.users[name] = id
			files["etc/passwd"] += fmt.Sprintf("%s:x:%d:%d::/:/usr/sbin/nologin\n", name, id, id)
			files["etc/group"] += fmt.Sprintf("%s:x:%d:\n", name, id)
		}
		if program := regexp.MustCompile(`(?m)^ExecStart=/usr/local/bin/(\S+)`).FindSubmatch(b); program != nil {
			if err := s.Install(string(program[1])); err != nil {
				return err
			}
		}
	}
	for _, dir := range []string{"root", "usr/local", "var/lib", "var/log"} {
		if err := os.MkdirAll(s.Path(dir), 0o755); err != nil {
			return err
		}
	}
	for name, text := range files {
		if err := errors.Join(os.MkdirAll(filepath.Dir(s.Path(name)), 0o755),
			os.WriteFile(s.Path(name), []byte(text), 0o644)); err != nil {
			return err
		}
	}
	return nil
}

// Install puts a program into its /usr/local/bin, by one rename.
func (s *Systemd) Install(program string) error {
	b, err := os.ReadFile(filepath.Join(s.bin, program))
	if err != nil {
		return fmt.Errorf("fleet: install %s: %w", program, err)
	}
	file := s.Path("/usr/local/bin/" + program)
	if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file+".new", b, 0o755),
		os.Rename(file+".new", file)); err != nil {
		return fmt.Errorf("fleet: install %s: %w", program, err)
	}
	return nil
}

// Give has a file or folder, and all in it, be of root and the group of one of its users, who may
// read it, and nobody else.
func (s *Systemd) Give(file, user string) error {
	err := filepath.WalkDir(s.Path(file), func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		mode := os.FileMode(0o640)
		if d.IsDir() {
			mode = 0o750
		}
		return errors.Join(os.Chown(path, 0, s.users[user]), os.Chmod(path, mode))
	})
	if err != nil {
		return fmt.Errorf("fleet: %s for %s: %w", file, user, err)
	}
	return nil
}

// newCgroup makes one below our own, in the hierarchy of version 2.
func newCgroup() (string, error) {
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return "", err
	}
	ours, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return "", err
	}
	// proc(5): 36 35 98:0 /root /mountpoint rw,noatime - type …
	mount := regexp.MustCompile(`(?m)^\S+ \S+ \S+ (\S+) (\S+) .*- cgroup2 `).FindSubmatch(mounts)
	own := regexp.MustCompile(`(?m)^0::(.*)$`).FindSubmatch(ours)
	if mount == nil || own == nil {
		return "", errors.New("no cgroup2 is mounted")
	}
	return os.MkdirTemp(filepath.Join(string(mount[2]),
		string(bytes.TrimPrefix(own[1], bytes.TrimSuffix(mount[1], []byte("/"))))), "lockstep-test-")
}

// removeCgroup removes one that nobody is in, and those in it.
func removeCgroup(dir string) error {
	inner, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, d := range inner {
		if d.IsDir() {
			if err := removeCgroup(filepath.Join(dir, d.Name())); err != nil {
				return err
			}
		}
	}
	return os.Remove(dir)
}
