package rotation

import (
	"go/parser"
	"go/token"
	"os"
	"strconv"
	"strings"
	"testing"
)

// A decision that could wait, lock, log or read could not be played against thousands of fleets.
func TestTheDecisionIsPure(t *testing.T) {
	forbidden := map[string]string{
		"context":                                "a decision does not wait",
		"sync":                                   "a decision is a function of values",
		"log/slog":                               "a decision is returned, and not logged",
		"os":                                     "a decision reads nothing",
		"github.com/lockstep-tls/lockstep/store": "a decision is made on values; rotation/fleet reads and writes them",
	}
	files, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for _, f := range files {
		if !strings.HasSuffix(f.Name(), ".go") || strings.HasSuffix(f.Name(), "_test.go") {
			continue
		}
		seen++
		parsed, err := parser.ParseFile(token.NewFileSet(), f.Name(), nil, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		for _, imp := range parsed.Imports {
			path, err := strconv.Unquote(imp.Path.Value)
			if err != nil {
				t.Fatal(err)
			}
			for room, why := range forbidden {
				if path == room || strings.HasPrefix(path, room+"/") {
					t.Errorf("%s imports %s: %s", f.Name(), path, why)
				}
			}
		}
	}
	if seen < 5 {
		t.Fatalf("only %d files were looked at", seen)
	}
}
