package fleet

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

// Root is the checkout: the nearest folder with a go.mod, from the working directory up.
func Root() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("fleet: %w", err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", errors.New("fleet: not inside the checkout: no go.mod here or above")
		}
		dir = parent
	}
}

// EnvoyVariable names the environment variable with the path of another Envoy than the installed.
const EnvoyVariable = "LOCKSTEP_ENVOY"

// EnvoyPath is the Envoy that EnvoyVariable names. Where that is not set, it is the one that
// `make envoy` installs.
func EnvoyPath() (string, error) {
	if path := os.Getenv(EnvoyVariable); path != "" {
		if _, err := os.Stat(path); err != nil {
			return "", fmt.Errorf("fleet: %s names no Envoy: give it the path of a binary, or unset it (%w)",
				EnvoyVariable, err)
		}
		return filepath.Abs(path)
	}
	root, err := Root()
	if err != nil {
		return "", err
	}
	path := filepath.Join(root, ".envoy", "envoy")
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("fleet: Envoy is not installed: type: make envoy (%w)", err)
	}
	return path, nil
}

// Build builds programs of cmd/ ("lockstepd"), and packages whose names have a slash
// ("./test/demo"), into bin/ of the checkout, as `make build` does, and returns that folder. What
// is up to date is left alone. Only one process builds at a time, so that tests of several packages
// may call it at once.
func Build(ctx context.Context, programs ...string) (bin string, err error) {
	return build(ctx, "bin", "off", programs)
}

// BuildReleased builds programs as `make release` does, with the recorded profile, and returns
// their folder. It compiles every dependency anew the first time.
func BuildReleased(ctx context.Context, programs ...string) (bin string, err error) {
	return build(ctx, filepath.Join("bin", "release"), "auto", programs)
}

func build(ctx context.Context, into, profile string, programs []string) (bin string, err error) {
	root, err := Root()
	if err != nil {
		return "", err
	}
	if err := dependOn(root); err != nil {
		return "", err
	}
	unlock, err := lock(filepath.Join(root, "bin"))
	if err != nil {
		return "", err
	}
	defer unlock()
	cmd := exec.CommandContext(ctx, filepath.Join(root, "test", "build"), programs...)
	cmd.Env = append(os.Environ(), "PROFILE="+profile)
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("fleet: test/build %v: %w\n%s", programs, err, out)
	}
	return filepath.Join(root, into), nil
}

// lock makes the folder of built programs and has this process build alone, until unlock is called.
func lock(bin string) (unlock func(), err error) {
	if err := os.MkdirAll(bin, 0o755); err != nil {
		return nil, fmt.Errorf("fleet: %w", err)
	}
	file, err := os.OpenFile(filepath.Join(bin, ".lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, fmt.Errorf("fleet: %w", err)
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX); err != nil {
		file.Close()
		return nil, fmt.Errorf("fleet: lock %s: %w", file.Name(), err)
	}
	return func() { file.Close() }, nil
}

// ErrNoCommit says that the checkout does not have a commit, as one without its history.
var ErrNoCommit = errors.New("the checkout does not have that commit")

// BuildBefore builds programs as they were at an earlier commit, and returns the folder that they
// are in. What was built once is there the next time. The error wraps [ErrNoCommit].
func BuildBefore(ctx context.Context, commit string, programs ...string) (bin string, err error) {
	root, err := Root()
	if err != nil {
		return "", err
	}
	unlock, err := lock(filepath.Join(root, "bin"))
	if err != nil {
		return "", err
	}
	defer unlock()
	bin = filepath.Join(root, "bin", "before", commit)
	if _, err := os.Stat(bin); err == nil {
		return bin, nil
	}
	run := func(dir, name string, args ...string) error {
		cmd := exec.CommandContext(ctx, name, args...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("fleet: %s %v: %w\n%s", name, args, err, out)
		}
		return nil
	}
	if run(root, "git", "cat-file", "-e", commit+"^{commit}") != nil {
		return "", fmt.Errorf("fleet: %s: %w", commit, ErrNoCommit)
	}
	work, err := os.MkdirTemp("", "lockstep-before-")
	if err != nil {
		return "", fmt.Errorf("fleet: %w", err)
	}
	defer os.RemoveAll(work)
	source, made := filepath.Join(work, "source"), filepath.Join(work, "bin")
	if err := os.Mkdir(source, 0o755); err != nil {
		return "", fmt.Errorf("fleet: %w", err)
	}
	tar := filepath.Join(work, "source.tar")
	if err := run(root, "git", "archive", "-o", tar, commit); err != nil {
		return "", err
	}
	if err := run(source, "tar", "-xf", tar); err != nil {
		return "", err
	}
	args := []string{"build", "-trimpath", "-o", made + string(filepath.Separator)}
	for _, p := range programs {
		args = append(args, "./cmd/"+p)
	}
	if err := run(source, "go", args...); err != nil {
		return "", err
	}
	half := bin + ".new"
	if err := os.MkdirAll(half, 0o755); err != nil {
		return "", fmt.Errorf("fleet: %w", err)
	}
	for _, p := range programs {
		if err := run(root, "cp", filepath.Join(made, p), half); err != nil {
			return "", err
		}
	}
	if err := os.Rename(half, bin); err != nil {
		return "", fmt.Errorf("fleet: %w", err)
	}
	return bin, nil
}

// dependOn opens every folder of the checkout that may hold source: go test remembers which folders
// a test opened, and else would take the result of a run before a change of the program for one
// after it. It does not remember those that were opened before the first test began, as by a
// TestMain.
func dependOn(root string) error {
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && path != root && (strings.HasPrefix(d.Name(), ".") || d.Name() == "bin") {
			return fs.SkipDir
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("fleet: %w", err)
	}
	return nil
}
