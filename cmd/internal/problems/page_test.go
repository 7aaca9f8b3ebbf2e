package problems

import (
	"os"
	"strings"
	"testing"

	"github.com/lockstep-tls/lockstep/cmd/internal/api"
)

// Each code has a section that says what is at stake, how to look, and what to type.
func TestEveryProblemHasItsSection(t *testing.T) {
	b, err := os.ReadFile("../../../docs/failures.md")
	if err != nil {
		t.Fatal(err)
	}
	sections := map[string]string{}
	for _, s := range strings.Split(string(b), "\n#### ")[1:] {
		code, text, _ := strings.Cut(s, "\n")
		sections[code], _, _ = strings.Cut(text, "\n## ")
	}
	for _, k := range Register {
		for _, part := range []string{"`", "**At stake.**", "**Look.**", "**Type.**"} {
			if !strings.Contains(sections[k.Code], part) {
				t.Errorf("docs/failures.md, section %s: no %s", k.Code, part)
			}
		}
		delete(sections, k.Code)
	}
	for code := range sections {
		t.Errorf("docs/failures.md explains %s, which is no code of a problem", code)
	}
}

// Each alert of the register is a rule, and the two generic rules choose by the label alert.
func TestEveryProblemHasItsAlert(t *testing.T) {
	b, err := os.ReadFile("../../../deploy/prometheus/lockstep.rules.yaml")
	if err != nil {
		t.Fatal(err)
	}
	rules := string(b)
	// told compares the severity of a problem with that of the rule that tells of it.
	told := func(code, alert string, severity api.Severity) {
		_, rule, found := strings.Cut(rules, "- alert: "+alert+"\n")
		rule, _, _ = strings.Cut(rule, "- alert: ")
		if !found || !strings.Contains(rule, "severity: "+string(severity)+"}") {
			t.Errorf("%s is %s in status, and deploy/prometheus has no rule %s of that severity", code, severity, alert)
		}
	}
	for _, k := range Register {
		if k.Alert != Generic && k.Severity != api.Notice {
			told(k.Code, k.Alert, k.Severity)
		}
		if k.Worse != "" {
			told(k.Code, k.Worse, api.Critical)
		}
	}
	for _, severity := range []api.Severity{api.Critical, api.Warning} {
		expr := `lockstep_problems{severity="` + string(severity) + `",alert="` + Generic + `"} > 0`
		if !strings.Contains(rules, expr) {
			t.Errorf("no rule over %s", expr)
		}
	}
}
