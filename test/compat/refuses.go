package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
)

// refuses reports whether the CLI refuses to write a bootstrap of that mode for that version of Envoy.
func refuses(ctx context.Context, bin, mode, version string) (bool, error) {
	cmd := exec.CommandContext(ctx, filepath.Join(bin, "lockstep"), "bootstrap", "envoy", "--node", "a", "--mode", mode, "--envoy-version", version)
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return false, nil
	case errors.As(err, &exit) && bytes.Contains(out, []byte("cannot do mode")):
		return true, nil
	}
	return false, fmt.Errorf("%v: %w: %s", cmd.Args, err, out)
}
