package pages

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

func TestLinksLeadSomewhere(t *testing.T) {
	all, root := All(t), Root(t)
	anchors := map[string][]string{}
	for _, p := range all {
		anchors[p.Path] = p.Anchors
	}
	checked := 0
	for _, p := range all {
		for _, l := range p.Links {
			if strings.Contains(l.Text, "://") {
				continue // others' pages
			}
			checked++
			path, frag, _ := strings.Cut(l.Text, "#")
			target := p.Path
			if path != "" {
				target = filepath.Join(filepath.Dir(p.Path), path)
			}
			if _, err := os.Stat(filepath.Join(root, target)); err != nil {
				t.Errorf("%s:%d: %s leads nowhere", p.Path, l.Line, l.Text)
				continue
			}
			if frag != "" && !slices.Contains(anchors[target], frag) {
				t.Errorf("%s:%d: %s has no heading %q", p.Path, l.Line, target, frag)
			}
		}
	}
	if checked < 50 {
		t.Fatalf("only %d links were found", checked)
	}
}

func TestMakeTargetsOfThePagesExist(t *testing.T) {
	b, err := os.ReadFile(filepath.Join(Root(t), "Makefile"))
	if err != nil {
		t.Fatal(err)
	}
	commands := Commands(All(t), "make")
	for _, c := range commands {
		for _, arg := range c.Args {
			if strings.HasPrefix(arg, "-") || strings.Contains(arg, "=") {
				continue
			}
			if !regexp.MustCompile(`(?m)^`+regexp.QuoteMeta(arg)+`:`).Match(b) && !planned[arg] {
				t.Errorf("make %s: the Makefile has no target %q", c, arg)
			}
		}
	}
	if len(commands) < 10 {
		t.Fatalf("only %d calls of make were found", len(commands))
	}
}

// planned are make targets and paths that pages name already, while they are being made. The test
// fails once one is there, so that nothing stays in this list.
var planned = map[string]bool{}

func TestPathsInThePagesExist(t *testing.T) {
	root := Root(t)
	path := regexp.MustCompile(`^[a-z][\w.-]*(/[\w.*-]+)+/?$`)
	checked := 0
	for _, p := range All(t) {
		if strings.HasPrefix(p.Path, "deploy/") || strings.HasPrefix(p.Path, "test/") {
			continue // they name others' files
		}
		for _, s := range p.Spans {
			top, _, _ := strings.Cut(s.Text, "/")
			if !path.MatchString(s.Text) {
				continue
			}
			if _, err := os.Stat(filepath.Join(root, top)); err != nil {
				continue // no folder of ours
			}
			checked++
			_, err := os.Stat(filepath.Join(root, s.Text))
			switch {
			case err != nil && !planned[s.Text]:
				t.Errorf("%s:%d: there is no %s", p.Path, s.Line, s.Text)
			case err == nil && planned[s.Text]:
				t.Errorf("%s is there: take it out of planned", s.Text)
			}
		}
	}
	if checked < 30 {
		t.Fatalf("only %d paths were found", checked)
	}
}

func TestReferenceOfTheAdminAPI(t *testing.T) {
	Golden(t, "docs/reference/admin-api.yaml", AdminAPI(t))
}

const metricsPage = "docs/metrics.md"

func TestReferenceOfTheMetrics(t *testing.T) {
	page, err := os.ReadFile(filepath.Join(Root(t), metricsPage))
	if err != nil {
		t.Fatal(err)
	}
	want, err := Between(page, "<!-- generated: make docs -->", "<!-- end -->", MetricsTable(Metrics(t)))
	if err != nil {
		t.Fatal(err)
	}
	Golden(t, metricsPage, want)
}

// The pages for people are written in short sentences.
func TestSentencesAreShort(t *testing.T) {
	const most = 20
	for _, p := range All(t) {
		if !ours(p.Path) {
			continue
		}
		for _, s := range p.Prose {
			for _, sentence := range sentences(s.Text) {
				if n := words(sentence); n > most {
					t.Errorf("%s:%d: %d words, at most %d: %s", p.Path, s.Line, n, most, sentence)
				}
			}
		}
	}
}

func TestPagesAreShortEnough(t *testing.T) {
	for path, most := range map[string]int{"README.md": 130, "ARCHITECTURE.md": 150} {
		b, err := os.ReadFile(filepath.Join(Root(t), path))
		if err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(strings.TrimSuffix(string(b), "\n"), "\n")
		if len(lines) > most {
			t.Errorf("%s has %d lines, at most %d", path, len(lines), most)
		}
		block := false
		for i, l := range lines {
			if strings.HasPrefix(l, "```") {
				block = !block
			}
			if n := len([]rune(l)); n > 100 && (!block || path == "ARCHITECTURE.md") {
				// README shows what the demo prints
				t.Errorf("%s:%d has %d columns, at most 100", path, i+1, n)
			}
		}
	}
}

// ours reports whether people wrote the page for people; others are made, or list what was read
// elsewhere.
func ours(path string) bool {
	switch {
	case path == "docs/compat.md", strings.HasPrefix(path, "docs/reference/"), path == "docs/metrics.md":
		return false
	case path == "README.md", path == "ARCHITECTURE.md", path == "SECURITY.md":
		return true
	}
	return strings.HasPrefix(path, "docs/")
}

var (
	codeSpan    = regexp.MustCompile("`[^`]*`")
	linkTarget  = regexp.MustCompile(`\]\([^)]*\)`)
	sentenceEnd = regexp.MustCompile(`[.!?:;]["”)*]*\s+`)
	aWord       = regexp.MustCompile(`[\p{L}\p{N}]`)
)

func sentences(text string) []string {
	text = linkTarget.ReplaceAllString(codeSpan.ReplaceAllString(text, "CODE"), "]")
	return sentenceEnd.Split(text, -1)
}

func words(s string) (n int) {
	for _, w := range strings.Fields(s) {
		if aWord.MatchString(w) {
			n++
		}
	}
	return n
}

func TestParse(t *testing.T) {
	p := Parse("a.md", []byte("# A `b`: c\n\n- one [x](y.md#z)\n  two `lockstep status`\n\n```sh\n"+
		"bin/lockstep nodes # a comment\n```\n\n# A b c\n"))
	if got := fmt.Sprint(p.Anchors); got != "[a-b-c a-b-c-1]" {
		t.Errorf("anchors %s", got)
	}
	if len(p.Links) != 1 || p.Links[0] != (Span{"y.md#z", 3}) {
		t.Errorf("links %v", p.Links)
	}
	if got := fmt.Sprint(Commands([]Page{p}, "lockstep")); got != "[a.md:7: nodes a.md:3: status]" {
		t.Errorf("commands %s", got)
	}
}

func TestSimpleCommands(t *testing.T) {
	for text, want := range map[string]string{
		"a b \\\n  c":                    "[[a b c]]",
		"A=1 a 'b c' \"d\" > out 2>&1 &": "[[a b c d]]",
		"a | b; c && d # e":              "[[a] [b] [c] [d]]",
		"a ''":                           "[[a ]]",
	} {
		var got [][]string
		for _, c := range simple(text) {
			got = append(got, c.words)
		}
		if fmt.Sprint(got) != want {
			t.Errorf("%q: %v, want %s", text, got, want)
		}
	}
}
