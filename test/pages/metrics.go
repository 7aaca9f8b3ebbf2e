package pages

import (
	"fmt"
	"go/ast"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// Metric is one that a program exports.
type Metric struct {
	Name, Help string
	Labels     []string
	Kind       string // Kind is gauge, counter or histogram.
}

// Metrics reads the project's own metrics from where they are made: desc("name", "help", "label")
// in lockstepd, and the options of Prometheus' client in lockstep-edge.
func Metrics(t testing.TB) []Metric {
	t.Helper()
	all := map[string]Metric{}
	for _, dir := range folders(t, "cmd/internal", "edgeproxy") {
		for _, f := range Sources(t, dir) {
			ast.Inspect(f, func(n ast.Node) bool {
				switch n := n.(type) {
				case *ast.CallExpr:
					if selected(n.Fun) == "desc" && len(n.Args) >= 2 && literal(n.Args[0]) != "" {
						m := Metric{Name: "lockstep_" + literal(n.Args[0]), Help: joined(n.Args[1])}
						for _, l := range n.Args[2:] {
							m.Labels = append(m.Labels, literal(l))
						}
						all[m.Name] = m
					}
					for _, arg := range n.Args { // NewCounterVec(CounterOpts{…}, []string{"label"})
						if opts, ok := options(arg); ok {
							opts.Labels = texts(n.Args[len(n.Args)-1])
							all[opts.Name] = opts
						}
					}
				}
				return true
			})
		}
	}
	var out []Metric
	for _, name := range slices.Sorted(maps.Keys(all)) {
		m := all[name]
		if m.Kind == "" {
			m.Kind = "gauge"
			if strings.HasSuffix(name, "_total") {
				m.Kind = "counter"
			}
		}
		out = append(out, m)
	}
	if len(out) < 30 {
		t.Fatalf("only %d metrics were found", len(out))
	}
	return out
}

func options(e ast.Expr) (m Metric, ok bool) {
	c, ok := e.(*ast.CompositeLit)
	if !ok || !strings.HasSuffix(selected(c.Type), "Opts") {
		return m, false
	}
	m.Kind = strings.ToLower(strings.TrimSuffix(selected(c.Type), "Opts"))
	for _, el := range c.Elts {
		if kv, ok := el.(*ast.KeyValueExpr); ok {
			switch selected(kv.Key) {
			case "Name":
				m.Name = literal(kv.Value)
			case "Help":
				m.Help = joined(kv.Value)
			}
		}
	}
	return m, m.Name != ""
}

func texts(e ast.Expr) (all []string) {
	if c, ok := e.(*ast.CompositeLit); ok {
		for _, el := range c.Elts {
			if s := literal(el); s != "" {
				all = append(all, s)
			}
		}
	}
	return all
}

// folders returns the folders below some that have Go files which are no tests.
func folders(t testing.TB, below ...string) (dirs []string) {
	t.Helper()
	root := Root(t)
	for _, b := range below {
		err := filepath.WalkDir(filepath.Join(root, b), func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			dir, err := filepath.Rel(root, filepath.Dir(path))
			if err == nil && !slices.Contains(dirs, dir) && !strings.Contains(dir, "testdata") {
				dirs = append(dirs, dir)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return dirs
}

// MetricsTable sets them as Markdown.
func MetricsTable(all []Metric) []byte {
	var b strings.Builder
	for _, program := range []string{"lockstepd", "lockstep-edge"} {
		fmt.Fprintf(&b, "\n## Of %s\n\n", program)
		for _, m := range all {
			if strings.HasPrefix(m.Name, "lockstep_edge_") != (program == "lockstep-edge") {
				continue
			}
			what := m.Kind
			if len(m.Labels) > 0 {
				what += ", by " + strings.Join(m.Labels, " and ")
			}
			b.WriteString(fold(fmt.Sprintf("- `%s` (%s): %s", m.Name, what, escape(m.Help)), "  ") + "\n")
		}
	}
	b.WriteString("\n")
	return []byte(b.String())
}
