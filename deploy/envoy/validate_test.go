// Package envoy_test runs every example through the real Envoy.
package envoy_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lockstep-tls/lockstep/test/fleet"
)

func TestEnvoyAcceptsTheExamples(t *testing.T) {
	files, err := filepath.Glob("*.yaml")
	if err != nil || len(files) < 6 {
		t.Fatalf("found %v, %v", files, err)
	}
	etc := installMTLS(t)
	for _, file := range files {
		t.Run(file, func(t *testing.T) {
			if file == "mtls-identity.yaml" {
				t.Skip("read by mtls.yaml, with which it is tried")
			}
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if file == "listener.yaml" {
				b = around(b)
			}
			if err := fleet.ValidateEnvoy(t.Context(),
				bytes.ReplaceAll(b, []byte("/etc/lockstep"), []byte(etc))); err != nil {
				t.Error(err)
			}
		})
	}
}

// around is a bootstrap with the listener, which is lockstepd's template.
func around(listener []byte) []byte {
	return []byte("static_resources:\n  clusters:\n  - {name: upstream, type: STATIC}\n  listeners:\n  -\n    " +
		strings.ReplaceAll(string(listener), "\n", "\n    ") + "\n")
}

// installMTLS makes the files that mtls.yaml names, in a folder that stands for /etc/lockstep.
func installMTLS(t *testing.T) (etc string) {
	t.Helper()
	etc = t.TempDir()
	ca, err := fleet.NewCA("Example Fleet CA")
	if err != nil {
		t.Fatal(err)
	}
	identity, err := ca.Issue(fleet.Leaf{URIs: []string{"spiffe://fleet.example/edge/1"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := fleet.WriteHost(etc, "identity", identity); err != nil {
		t.Fatal(err)
	}
	secret, err := os.ReadFile("mtls-identity.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{
		"ca.pem": ca.PEM(), "mtls-identity.yaml": bytes.ReplaceAll(secret, []byte("/etc/lockstep"), []byte(etc)),
	} {
		if err := os.WriteFile(filepath.Join(etc, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return etc
}
