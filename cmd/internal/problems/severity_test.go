package problems

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"
)

// raisers are the functions that make a problem more or less severe than the register says, with
// the codes that they do it to.
var raisers = map[string][]string{
	"cmd/internal/expiring/expiring.go:Problems":         {NotRenewed},
	"cmd/internal/admin/nodecerts.go:ofNodeCertificates": {NodesNearEnd},
	"cmd/internal/replica/mixed.go:problems":             nil, // no alert tells of a notice
	"cmd/internal/replica/problems.go:ofMissing":         nil, // to a notice, too
	"cmd/internal/recorder/conditions.go:look":           nil, // of what is remembered
	"cmd/internal/problems/acks.go:Put":                  nil, // of an acknowledgement
}

// TestWhatGetsCriticalHasAnAlertThatIsCritical: a severity that is set elsewhere than in the
// register belongs to a code whose second alert says so.
func TestWhatGetsCriticalHasAnAlertThatIsCritical(t *testing.T) {
	const root = "../../.."
	found := map[string]bool{}
	err := filepath.WalkDir(filepath.Join(root, "cmd/internal"), func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			return err
		}
		path, err = filepath.Rel(root, path)
		for _, d := range f.Decls {
			ast.Inspect(d, func(n ast.Node) bool {
				a, ok := n.(*ast.AssignStmt)
				if !ok {
					return true
				}
				for _, to := range a.Lhs {
					if s, ok := to.(*ast.SelectorExpr); ok && s.Sel.Name == "Severity" {
						found[path+":"+d.(*ast.FuncDecl).Name.Name] = true
					}
				}
				return true
			})
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for at := range found {
		codes, ok := raisers[at]
		if !ok {
			t.Errorf("%s sets a severity: say here of which code", at)
		}
		for _, code := range codes {
			if k, _ := Find(code); k.Worse == "" {
				t.Errorf("%s makes %s critical, and no alert that is critical tells of it", at, code)
			}
		}
	}
	for at := range raisers {
		if !found[at] {
			t.Errorf("%s sets no severity any more", at)
		}
	}
}
