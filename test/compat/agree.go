package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
)

// The answers of the CLI that is asked for a bootstrap.
const (
	refuses = "refuses"
	warns   = "warns"
	takes   = "takes"
)

// agree returns an error unless the CLI refuses each mode on each version where it was seen not to
// work, and warns of it where something was odd.
func agree(ctx context.Context, bin string, r report) error {
	var errs []error
	for _, row := range r.Rows {
		for mode, c := range map[string]column{"on-demand": onDemand, "hybrid": hybrid} {
			got, err := answer(ctx, bin, mode, row.Version)
			if err != nil {
				return err
			}
			if want := due(row.Cells[c]); got != want {
				errs = append(errs, fmt.Errorf("cmd/internal/bootstrap/versions.go is to be changed: "+
					"lockstep bootstrap %s mode %s for Envoy %s; by this run it should be: %s",
					got, mode, row.Version, want))
			}
		}
	}
	return errors.Join(errs...)
}

// due is what the CLI should do by what was seen.
func due(c cell) string {
	switch {
	case !c.OK:
		return refuses
	case c.Why != "":
		return warns
	}
	return takes
}

// answer asks the CLI for a bootstrap of that mode for that version of Envoy.
func answer(ctx context.Context, bin, mode, version string) (string, error) {
	cmd := exec.CommandContext(ctx, filepath.Join(bin, "lockstep"), "bootstrap", "envoy", "--node", "a",
		"--xds", "127.0.0.1:18000", "--admin", "127.0.0.1:9901",
		"--mode", mode, "--envoy-version", version)
	var words bytes.Buffer
	cmd.Stderr = &words
	err := cmd.Run()
	switch {
	case err != nil && bytes.Contains(words.Bytes(), []byte("cannot do mode")):
		return refuses, nil
	case err != nil:
		return "", fmt.Errorf("%v: %w: %s", cmd.Args, err, words.Bytes())
	case words.Len() > 0:
		return warns, nil
	}
	return takes, nil
}
