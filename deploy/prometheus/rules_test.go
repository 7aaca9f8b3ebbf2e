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

// exported reads the names of lockstepd's own metrics from where they are made: desc("name", ...).
func exported(t *testing.T) map[string]bool {
	t.Helper()
	names := map[string]bool{}
	f, err := parser.ParseFile(token.NewFileSet(), "../../cmd/internal/daemon/metrics.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(f, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok {
			return true
		}
		if f, ok := call.Fun.(*ast.Ident); ok && f.Name == "desc" {
			if s, ok := call.Args[0].(*ast.BasicLit); ok {
				name, err := strconv.Unquote(s.Value)
				if err != nil {
					t.Fatal(err)
				}
				names["lockstep_"+name] = true
			}
		}
		return true
	})
	if !names["lockstep_store_up"] {
		t.Fatalf("the metrics are not made where they were: %v", names)
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
				t.Errorf("%s: lockstepd exports no %s", r.Alert, w)
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
