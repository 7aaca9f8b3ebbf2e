package lds

import (
	"go/parser"
	"go/token"
	"os/exec"
	"regexp"
	"strings"
	"testing"
)

var unfinished = regexp.MustCompile(`/v\d+alpha`)

// A version of go-control-plane with more extensions must not leave lockstepd behind.
func TestEveryExtensionIsKnown(t *testing.T) {
	out, err := exec.Command("go", "list", "github.com/envoyproxy/go-control-plane/envoy/extensions/...").Output()
	if err != nil {
		t.Fatal(err)
	}
	f, err := parser.ParseFile(token.NewFileSet(), "types.go", nil, parser.ImportsOnly)
	if err != nil {
		t.Fatal(err)
	}
	have := map[string]bool{}
	for _, i := range f.Imports {
		have[strings.Trim(i.Path.Value, `"`)] = true
	}
	all := strings.Fields(string(out))
	if len(all) < 300 {
		t.Fatalf("go list finds %d extensions", len(all))
	}
	for _, pkg := range all {
		if !unfinished.MatchString(pkg) && !have[pkg] {
			t.Errorf("types.go does not import %s", pkg)
		}
	}
}
