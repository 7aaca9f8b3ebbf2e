package fleet

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
)

// Envoy starts Envoy with a configuration (YAML) whose admin listener is at admin, and more flags.
// It is ready when its /ready is.
func (f *Fleet) Envoy(name string, config []byte, admin string, more ...string) (*Process, error) {
	path, err := EnvoyPath()
	if err != nil {
		return nil, err
	}
	return f.EnvoyAt(path, name, config, admin, more...)
}

// EnvoyAt is Envoy with another binary than EnvoyPath, so that one fleet may have several versions.
func (f *Fleet) EnvoyAt(path, name string, config []byte, admin string, more ...string) (*Process, error) {
	file := filepath.Join(f.dir, name+".yaml")
	if err := os.WriteFile(file, config, 0o600); err != nil {
		return nil, fmt.Errorf("fleet: configuration of %s: %w", name, err)
	}
	return f.Start(Command{
		Name:  name,
		Path:  path,
		Args:  append(append([]string{"-c", file, "--log-level", "warning"}, usual(more)...), more...),
		Ready: "http://" + admin + "/ready",
	})
}

// EnvoyAgain starts the successor of an Envoy that was started with a --base-id: a hot restart of
// that epoch, 1 the first time. The process before ends by itself.
func (f *Fleet) EnvoyAgain(before *Process, name string, epoch int) (*Process, error) {
	c := before.c
	c.Name = name
	c.Args = slices.Clone(c.Args)
	if i := slices.Index(c.Args, "--restart-epoch"); i >= 0 {
		c.Args = slices.Delete(c.Args, i, i+2)
	}
	c.Args = append(c.Args, "--restart-epoch", strconv.Itoa(epoch))
	return f.Start(c)
}

// usual are the flags of an Envoy for which the caller has no others: one worker, no hot restart.
func usual(more []string) (flags []string) {
	if !slices.Contains(more, "--concurrency") {
		flags = append(flags, "--concurrency", "1")
	}
	if !slices.Contains(more, "--base-id") {
		flags = append(flags, "--use-dynamic-base-id", "--disable-hot-restart")
	}
	return flags
}

// ValidateEnvoy runs a configuration through `envoy --mode validate`. The error holds Envoy's
// words.
func ValidateEnvoy(ctx context.Context, config []byte) error {
	path, err := EnvoyPath()
	if err != nil {
		return err
	}
	file, err := os.CreateTemp("", "envoy-*.yaml")
	if err != nil {
		return fmt.Errorf("fleet: %w", err)
	}
	defer os.Remove(file.Name())
	if _, err := file.Write(config); err != nil {
		return fmt.Errorf("fleet: %w", err)
	}
	if err := file.Close(); err != nil {
		return fmt.Errorf("fleet: %w", err)
	}
	out, err := exec.CommandContext(ctx, path, "--mode", "validate",
		"--log-level", "warning", "-c", file.Name()).CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte("OK")) {
		return fmt.Errorf("fleet: envoy --mode validate: %w\n%s", err, out)
	}
	return nil
}
