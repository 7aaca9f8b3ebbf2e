package fleet

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestTheVariableNamesTheEnvoy: a run against another Envoy must never use the installed one by
// mistake.
func TestTheVariableNamesTheEnvoy(t *testing.T) {
	other := filepath.Join(t.TempDir(), "envoy")
	if err := os.WriteFile(other, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv(EnvoyVariable, other)
	if got, err := EnvoyPath(); err != nil || got != other {
		t.Errorf("%s, %v; want %s", got, err, other)
	}
	t.Setenv(EnvoyVariable, other+"-missing")
	if got, err := EnvoyPath(); err == nil || !strings.Contains(err.Error(), EnvoyVariable) {
		t.Errorf("%s, %v; want an error that names the variable", got, err)
	}
	t.Setenv(EnvoyVariable, "")
	if got, err := EnvoyPath(); err == nil && !strings.HasSuffix(got, filepath.Join(".envoy", "envoy")) {
		t.Errorf("%s; want the installed one", got)
	}
}
