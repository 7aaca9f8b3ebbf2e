package test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// Library rooms know no command line. What an operator types is put together in cmd, by
// package advice, or passed to a room that has to name it.
func TestLibraryRoomsNameNoCommandOfTheCLI(t *testing.T) {
	command := commands(t)
	if !command.MatchString("give up with: lockstep cert rm --confirm") ||
		command.MatchString("a lockstep that hangs") {
		t.Fatalf("%v does not tell a command from other words", command)
	}
	read := 0
	for _, f := range tracked(t) {
		room, _, _ := strings.Cut(f, "/")
		if !strings.HasSuffix(f, ".go") || strings.HasSuffix(f, "_test.go") || !libraryRooms[room] {
			continue
		}
		src, err := os.ReadFile(filepath.Join("..", f))
		if err != nil {
			continue // removed, and not committed yet
		}
		read++
		for _, text := range texts(t, f, src) {
			if name := command.FindString(text); name != "" && !slices.Contains(noCommands, text) {
				t.Errorf("%s names the command %q: return a sentinel, and say in cmd/internal/advice "+
					"what to type", f, name)
			}
		}
	}
	if read < 100 {
		t.Errorf("only %d files were read", read)
	}
}

// noCommands are texts that only look like commands.
var noCommands = []string{
	`"lockstep audit line v1"`, // it separates the uses of a key
	`"lockstep store "`,        // it names a connection
}

var libraryRooms = map[string]bool{
	"keysource": true, "store": true, "seal": true, "rotation": true, "audit": true, "identity": true, "events": true,
	"xds": true, "sds": true, "lds": true, "edgeproxy": true, "probe": true, "internal": true,
}

// commands matches "lockstep" with the name of one of its commands, which cmd/lockstep/root.go
// adds.
func commands(t *testing.T) *regexp.Regexp {
	t.Helper()
	src, err := os.ReadFile("../cmd/lockstep/root.go")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, m := range regexp.MustCompile(`a\.([a-z]+)Command\(\)`).FindAllSubmatch(src, -1) {
		names = append(names, string(m[1]))
	}
	if len(names) < 20 {
		t.Fatalf("only %d commands were found: %v", len(names), names)
	}
	return regexp.MustCompile(`\blockstep (` + strings.Join(names, "|") + `)\b`)
}

// texts are the strings of a source file.
func texts(t *testing.T, name string, src []byte) (all []string) {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), name, src, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(fmt.Errorf("%s: %w", name, err))
	}
	ast.Inspect(f, func(n ast.Node) bool {
		if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING {
			all = append(all, lit.Value)
		}
		return true
	})
	return all
}
