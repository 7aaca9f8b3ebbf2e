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
			return "", fmt.Errorf("fleet: %s names no Envoy: give it the path of a binary, or unset it (%w)", EnvoyVariable, err)
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

// Build builds programs of cmd/ ("lockstepd") into bin/ of the checkout, as `make build` does, and returns that folder. What is up to date is
// left alone, and only one process builds at a time, so that tests of several packages may call it at once.
func Build(ctx context.Context, programs ...string) (bin string, err error) {
	packages := make([]string, len(programs))
	for i, p := range programs {
		packages[i] = "./cmd/" + p
	}
	return build(ctx, packages...)
}

func build(ctx context.Context, packages ...string) (bin string, err error) {
	root, err := Root()
	if err != nil {
		return "", err
	}
	bin = filepath.Join(root, "bin")
	if err := os.MkdirAll(bin, 0o755); err != nil {
		return "", fmt.Errorf("fleet: %w", err)
	}
	if err := dependOn(root); err != nil {
		return "", err
	}
	lock, err := os.OpenFile(filepath.Join(bin, ".lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return "", fmt.Errorf("fleet: %w", err)
	}
	defer lock.Close() // and gives the lock back
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return "", fmt.Errorf("fleet: lock %s: %w", lock.Name(), err)
	}
	args := []string{"build", "-trimpath", "-o", bin + string(filepath.Separator)}
	cmd := exec.CommandContext(ctx, "go", append(args, packages...)...)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("fleet: go build %v: %w\n%s", packages, err, out)
	}
	return bin, nil
}

// dependOn opens every folder of the checkout that may hold source: go test remembers which folders a test opened, and else would take the
// result of a run before a change of the program for one after it. It does not remember those that were opened before the first test began, as by a TestMain.
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
