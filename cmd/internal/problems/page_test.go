package problems

import (
	"os"
	"strings"
	"testing"
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
