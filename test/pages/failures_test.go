package pages

import (
	"go/ast"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// complainers are the functions that make the sentences of `lockstep status`, wherever they stand.
var complainers = []string{
	// of the admin API
	"with", "refusedFirst", "ofScope", "ofCertificates", "ofReplica", "ofSeal", "problemOf",
	"ofStale",
	"problems", "ofMissing", // of the replicas
	"ownProblems", // of lockstepd
	// of the listeners, the policy, a lost store, the nodes and the directory's certificates
	"Problems", "Unsettled", "PutBack",
	"Degraded",    // of the audit log
	"differences", // of the configuration file
}

// wrapped are the sentinels whose words begin a sentence.
var wrapped = []string{"ErrUnusable", "ErrUnsettled", "ErrUnlogged"}

// silent are texts in these functions that are no sentences.
var silent = []string{
	"%s: %s", ": ", "%d more", "%s (since %s)", "lockstep exclude %s --scope %s --for 0 takes it back",
}

var verb = regexp.MustCompile(`%(\[\d\])?[vsdqw]`)

func TestEverySentenceOfStatusIsExplained(t *testing.T) {
	page := failures(t)
	found := map[string]bool{}
	sentences := 0
	for _, dir := range folders(t, "cmd/internal", "audit", "identity", "store/guard") {
		for _, f := range Sources(t, dir) {
			for name, text := range sentinels(f) {
				if !slices.Contains(wrapped, name) {
					continue
				}
				found[name] = true
				sentences++
				if piece := longest(text); !strings.Contains(page, piece) {
					t.Errorf("docs/failures.md does not explain what %s (%s) says: %q", name, dir, piece)
				}
			}
			for _, d := range f.Decls {
				fn, ok := d.(*ast.FuncDecl)
				if !ok || !slices.Contains(complainers, fn.Name.Name) {
					continue
				}
				for _, text := range formats(fn) {
					found[fn.Name.Name] = true
					sentences++
					if piece := longest(text); !strings.Contains(page, piece) {
						t.Errorf("docs/failures.md does not explain what %s (%s) says: %q", fn.Name.Name, dir, piece)
					}
				}
			}
		}
	}
	for _, name := range append(complainers, wrapped...) {
		if !found[name] {
			t.Errorf("no function %s makes a sentence: say in this test where it is made now", name)
		}
	}
	if sentences < 30 {
		t.Errorf("only %d sentences were found", sentences)
	}
}

// sentinels are the texts of the errors that a file declares, by name.
func sentinels(f *ast.File) map[string]string {
	all := map[string]string{}
	for _, d := range f.Decls {
		g, ok := d.(*ast.GenDecl)
		if !ok {
			continue
		}
		for _, s := range g.Specs {
			v, ok := s.(*ast.ValueSpec)
			if !ok || len(v.Values) != 1 {
				continue
			}
			if c, ok := v.Values[0].(*ast.CallExpr); ok && selected(c.Fun) == "New" && len(c.Args) == 1 {
				all[v.Names[0].Name] = joined(c.Args[0])
			}
		}
	}
	return all
}

// formats are the texts that a function puts into sentences.
func formats(fn *ast.FuncDecl) (all []string) {
	ast.Inspect(fn, func(n ast.Node) bool {
		c, ok := n.(*ast.CallExpr)
		if !ok {
			return true
		}
		switch selected(c.Fun) {
		case "Sprintf", "Errorf", "New":
			if text := joined(c.Args[0]); text != "" && !slices.Contains(silent, text) && strings.Contains(text, " ") {
				all = append(all, text)
			}
		}
		return true
	})
	return all
}

// longest is the longest piece of a format that stands in every sentence made with it.
func longest(format string) (piece string) {
	for _, p := range verb.Split(format, -1) {
		p, _, _ = strings.Cut(p, " (lockstep ") // what to type is said in the page's own words
		p = strings.Trim(strings.Join(strings.Fields(p), " "), " .:;,(")
		if len(p) > len(piece) {
			piece = p
		}
	}
	if i := strings.Index(piece, "; "); i > 30 { // the page has its beginning
		piece = piece[:i]
	}
	if i := strings.Index(piece, ": put "); i > 30 {
		piece = piece[:i]
	}
	return piece
}

func failures(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(Root(t), "docs/failures.md"))
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(strings.Fields(string(b)), " ")
}

// The states stand as constants named state… in the admin API.
func TestEveryStateIsExplained(t *testing.T) {
	page := failures(t)
	states := 0
	for _, f := range Sources(t, adminDir) {
		for _, d := range f.Decls {
			g, ok := d.(*ast.GenDecl)
			if !ok {
				continue
			}
			for _, s := range g.Specs {
				v, ok := s.(*ast.ValueSpec)
				if !ok || !strings.HasPrefix(v.Names[0].Name, "state") ||
					len(v.Values) == 0 || literal(v.Values[0]) == "" {
					continue
				}
				states++
				if !strings.Contains(page, "| "+literal(v.Values[0])+" |") {
					t.Errorf("docs/failures.md has no line for the state %q", literal(v.Values[0]))
				}
			}
		}
	}
	if states < 8 {
		t.Fatalf("only %d states were found", states)
	}
}
