package prometheus_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
)

const (
	rulesFile = "lockstep.rules.yaml"
	testFile  = "lockstep.rules.test.yaml"
)

type rule struct {
	Alert       string            `yaml:"alert"`
	Expr        string            `yaml:"expr"`
	For         string            `yaml:"for"`
	Labels      map[string]string `yaml:"labels"`
	Annotations map[string]string `yaml:"annotations"`
}

func rules(t *testing.T) (all []rule) {
	t.Helper()
	b, err := os.ReadFile(rulesFile)
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Groups []struct {
			Name  string `yaml:"name"`
			Rules []rule `yaml:"rules"`
		} `yaml:"groups"`
	}
	if err := yaml.UnmarshalWithOptions(b, &file, yaml.Strict()); err != nil {
		t.Fatal(err)
	}
	for _, g := range file.Groups {
		all = append(all, g.Rules...)
	}
	if len(all) == 0 {
		t.Fatal("no rules")
	}
	return all
}

// exported reads the names of our own metrics from where they are made: desc("name", ...) of
// lockstepd, and Name: "lockstep_edge_..." of lockstep-edge.
func exported(t *testing.T) map[string]bool {
	t.Helper()
	names := map[string]bool{"up": true} // up is Prometheus' own.
	literal := func(e ast.Expr) string {
		s, ok := e.(*ast.BasicLit)
		if !ok {
			return ""
		}
		name, err := strconv.Unquote(s.Value)
		if err != nil {
			t.Fatal(err)
		}
		return name
	}
	for _, file := range []string{
		"cmd/internal/metrics/metrics.go", "cmd/internal/metrics/connections.go",
		"cmd/internal/metrics/certificates.go", "cmd/internal/metrics/problems.go",
		"cmd/internal/edge/admin.go", "cmd/internal/edge/expiry.go", "edgeproxy/metrics.go",
	} {
		f, err := parser.ParseFile(token.NewFileSet(), "../../"+file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.CallExpr:
				if f, ok := n.Fun.(*ast.Ident); ok && f.Name == "desc" {
					names["lockstep_"+literal(n.Args[0])] = true
				}
			case *ast.KeyValueExpr:
				if k, ok := n.Key.(*ast.Ident); ok && k.Name == "Name" {
					names[literal(n.Value)] = true
				}
			}
			return true
		})
	}
	for _, known := range []string{"lockstep_store_up", "lockstep_edge_ready", "lockstep_edge_requests_total"} {
		if !names[known] {
			t.Fatalf("%s is not made where it was: %v", known, names)
		}
	}
	return names
}

var (
	ignored = regexp.MustCompile(`"[^"]*"|\{[^}]*\}|\[[^]]*\]|\b(by|without|on|ignoring) *\([^)]*\)`)
	word    = regexp.MustCompile(`\b[a-zA-Z_:][a-zA-Z0-9_:]*\b *\(?`)
)

func TestAlertsUseOnlyMetricsThatAreExported(t *testing.T) {
	known := exported(t)
	for _, r := range rules(t) {
		used := 0
		for _, w := range word.FindAllString(ignored.ReplaceAllString(r.Expr, " "), -1) {
			if w = strings.TrimSpace(w); strings.HasSuffix(w, "(") || w == "and" || w == "or" || w == "unless" {
				continue
			}
			used++
			if !known[w] {
				t.Errorf("%s: nobody exports %s", r.Alert, w)
			}
		}
		if used == 0 {
			t.Errorf("%s: no metric in %s", r.Alert, r.Expr)
		}
	}
}

func TestAlertsSayHowBadItIsAndWhatToDoNext(t *testing.T) {
	seen := map[string]bool{}
	for _, r := range rules(t) {
		if seen[r.Alert] || !strings.HasPrefix(r.Alert, "Lockstep") {
			t.Errorf("%q: the name stands there twice, or does not begin with Lockstep", r.Alert)
		}
		seen[r.Alert] = true
		if s := r.Labels["severity"]; s != "warning" && s != "critical" {
			t.Errorf("%s: severity %q", r.Alert, s)
		}
		if r.Annotations["summary"] == "" {
			t.Errorf("%s: no summary", r.Alert)
		}
		if _, next, ok := strings.Cut(r.Annotations["description"], "Next: "); !ok || len(next) < 20 {
			t.Errorf("%s: the description names no next step", r.Alert)
		}
	}
}

func TestEveryAlertHasItsSectionInThePageOfFailures(t *testing.T) {
	const page = "docs/failures.md"
	b, err := os.ReadFile(filepath.Join("..", "..", page))
	if err != nil {
		t.Fatal(err)
	}
	sections := map[string]string{}
	for _, s := range strings.Split(string(b), "\n### ")[1:] {
		name, text, _ := strings.Cut(s, "\n")
		sections[name] = text
	}
	known := map[string]bool{}
	for _, r := range rules(t) {
		known[r.Alert] = true
		want := page + "#" + strings.ToLower(r.Alert)
		if generic(r) { // each code has its section
			want = page + "#{{ $labels.code }}"
		}
		if r.Annotations["runbook"] != want {
			t.Errorf("%s: runbook is %q, want %q", r.Alert, r.Annotations["runbook"], want)
		}
		for _, part := range []string{"**Meaning.**", "**Cause.**", "**Cure.**"} {
			if !strings.Contains(sections[r.Alert], part) {
				t.Errorf("%s: %s has no %s", r.Alert, page, part)
			}
		}
	}
	for name := range sections {
		if strings.HasPrefix(name, "Lockstep") && !known[name] {
			t.Errorf("%s explains %s, which is no alert", page, name)
		}
	}
}

// generic reports whether a rule tells of every problem that has no rule of its own.
func generic(r rule) bool { return strings.HasPrefix(r.Expr, "lockstep_problems{") }

func TestEveryAlertIsSeenToFire(t *testing.T) {
	b, err := os.ReadFile(testFile)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range rules(t) {
		if !strings.Contains(string(b), `{alertname="`+r.Alert+`"}`) {
			t.Errorf("%s expects no %s", testFile, r.Alert)
		}
	}
}

// Debian's promtool, from the PATH or from test/install-promtool.
func TestPromtool(t *testing.T) {
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		promtool = filepath.Join("..", "..", ".promtool", "promtool")
		if _, err := os.Stat(promtool); err != nil {
			t.Skip("no promtool: type test/install-promtool")
		}
	}
	for _, args := range [][]string{{"check", "rules", rulesFile}, {"test", "rules", testFile}} {
		if out, err := exec.Command(promtool, args...).CombinedOutput(); err != nil {
			t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
}
