package main

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/lockstep-tls/lockstep/test/fleet"
)

const (
	// corpusWithin bounds the test on one version, which then ends itself.
	corpusWithin = 100 * time.Second
	compiling    = time.Minute // compiling is what may pass before the test begins.
)

// tryCorpus runs the corpus of certificates (test/corpus) against the Envoy, if the checkout has
// it.
func tryCorpus(ctx context.Context, _ *stage, r *row) (cell, error) {
	root, err := fleet.Root()
	if err != nil {
		return cell{}, err
	}
	if _, err := os.Stat(filepath.Join(root, "test", "corpus")); errors.Is(err, fs.ErrNotExist) {
		return cell{Says: "not run", Why: "this checkout has no test/corpus"}, nil
	}
	soon, cancel := context.WithTimeout(ctx, corpusWithin+compiling)
	defer cancel()
	cmd := exec.CommandContext(soon, "go", "test", "-count=1", "-timeout", corpusWithin.String(), "./test/corpus")
	cmd.Dir = root
	cmd.Env = append(os.Environ(), fleet.EnvoyVariable+"="+r.binary)
	cmd.WaitDelay = time.Second
	out, err := cmd.CombinedOutput()
	switch {
	case ctx.Err() != nil:
		return cell{}, ctx.Err()
	case soon.Err() != nil:
		return no("it did not end within %s", corpusWithin+compiling), nil
	case err != nil:
		return no("%s", firstFailure(string(out))), nil
	}
	return cell{OK: true, Says: "yes"}, nil
}

// firstFailure returns the first failure in what go test prints, without the times.
func firstFailure(out string) string {
	lines := strings.Split(strings.TrimSpace(out), "\n")
	for i, line := range lines {
		if strings.Contains(line, "--- FAIL") && i+1 < len(lines) {
			return strings.TrimSpace(line) + " " + strings.TrimSpace(lines[i+1])
		}
	}
	return lines[len(lines)-1]
}
