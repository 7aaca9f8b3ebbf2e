package test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/lockstep-tls/lockstep/store"
)

// readers are packages that make keys of a prefix whose owner they are not, and why.
var readers = map[string]string{
	"cmd/internal/backup": "a restore looks whether the store has an audit log of its own",
}

// written are files in which a prefix is written out, and why.
var written = map[string]string{
	"audit/key.go":                   "the log does not know the store; storesink refuses what is not of its prefix",
	"cmd/lockstep/restoreoffline.go": "it words what a server has answered",
}

// Whoever makes a key of the store owns its prefix, by the register. A key whose prefix nobody
// registered would be missing in the decisions on backups and on freezing.
func TestEveryKeyOfTheStoreHasAnOwner(t *testing.T) {
	byName := map[string]store.Prefix{}
	used := map[string]bool{}
	for _, p := range store.Prefixes {
		byName[p.Name] = p
	}
	registered := variables(t)
	for _, f := range tracked(t) {
		if !strings.HasSuffix(f, ".go") || strings.HasSuffix(f, "_test.go") ||
			strings.HasPrefix(f, "test/") || f == "store/prefixes.go" {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), filepath.Join("..", f), nil, 0)
		if os.IsNotExist(err) {
			continue // removed, and not committed yet
		}
		if err != nil {
			t.Fatal(err)
		}
		pkg := filepath.Dir(f)
		consts := constants(t, filepath.Join("..", pkg))
		uses := func(name string) {
			p, ok := byName[name]
			if !ok {
				t.Errorf("%s makes a key that begins with %q: register that prefix in store/prefixes.go", f, name)
				return
			}
			used[name] = true
			if pkg != p.Owner && !strings.HasPrefix(pkg, p.Owner+"/") && readers[pkg] == "" {
				t.Errorf("%s makes a key of %q, which belongs to %s", f, name, p.Owner)
			}
		}
		ast.Inspect(file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.CallExpr: // store.Key("cert", …)
				if fun, ok := n.Fun.(*ast.SelectorExpr); ok && isStore(fun.X) && fun.Sel.Name == "Key" {
					name, ok := text(n.Args[0], consts)
					if !ok {
						t.Errorf("%s calls store.Key with a prefix that cannot be read here: "+
							"use one of store/prefixes.go", f)
						return true
					}
					uses(name)
				}
			case *ast.SelectorExpr: // store.Certificates.Key, .All, .Name
				if inner, ok := n.X.(*ast.SelectorExpr); ok && isStore(inner.X) {
					name, ok := registered[inner.Sel.Name]
					switch {
					case ok && n.Sel.Name != "Has": // whoever asks makes no key
						uses(name)
					case ok && pkg == byName[name].Owner:
						used[name] = true
					}
				}
			case *ast.BasicLit: // "cert/", written out
				s, err := strconv.Unquote(n.Value)
				if err != nil || n.Kind != token.STRING {
					return true
				}
				if name, ok := strings.CutSuffix(s, "/"); ok && byName[name].Name != "" && written[f] == "" {
					t.Errorf("%s has %q: use the register in store/prefixes.go", f, s)
				}
			}
			return true
		})
	}
	for name := range byName {
		if !used[name] {
			t.Errorf("%q is registered, and nobody makes a key of it", name)
		}
	}
}

func TestOwnersOfKeysExist(t *testing.T) {
	pkgs := packages(t)
	for _, p := range store.Prefixes {
		if _, ok := pkgs[p.Owner]; !ok {
			t.Errorf("%q belongs to %s, which is no package", p.Name, p.Owner)
		}
	}
}

func isStore(x ast.Expr) bool {
	id, ok := x.(*ast.Ident)
	return ok && id.Name == "store"
}

// text is a string literal, or a constant of the package that is one.
func text(x ast.Expr, consts map[string]string) (string, bool) {
	switch x := x.(type) {
	case *ast.BasicLit:
		s, err := strconv.Unquote(x.Value)
		return s, err == nil
	case *ast.Ident:
		s, ok := consts[x.Name]
		return s, ok
	}
	return "", false
}

// constants are the string constants of a package's files.
func constants(t *testing.T, folder string) map[string]string {
	t.Helper()
	all := map[string]string{}
	files, err := filepath.Glob(filepath.Join(folder, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		file, err := parser.ParseFile(token.NewFileSet(), f, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			if v, ok := n.(*ast.ValueSpec); ok {
				for i, x := range v.Values {
					if s, ok := text(x, nil); ok && i < len(v.Names) {
						all[v.Names[i].Name] = s
					}
				}
			}
			return true
		})
	}
	return all
}

// variables maps the variables of the register to the names of their prefixes.
func variables(t *testing.T) map[string]string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), filepath.Join("..", "store", "prefixes.go"), nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	ast.Inspect(file, func(n ast.Node) bool {
		v, ok := n.(*ast.ValueSpec)
		if !ok || len(v.Values) != 1 {
			return true
		}
		lit, ok := v.Values[0].(*ast.CompositeLit)
		if !ok {
			return true
		}
		for _, e := range lit.Elts {
			if kv, ok := e.(*ast.KeyValueExpr); ok {
				if id, ok := kv.Key.(*ast.Ident); ok && id.Name == "Name" {
					all[v.Names[0].Name], _ = text(kv.Value, nil)
				}
			}
		}
		return true
	})
	if len(all) != len(store.Prefixes) {
		t.Fatalf("%d variables in the register, %d prefixes", len(all), len(store.Prefixes))
	}
	return all
}
