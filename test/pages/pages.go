// Package pages reads the project's Markdown and makes the reference from the code, so that tests
// can compare both.
//
// Each program has its tests beside it, since only they see its commands: cmd/lockstep,
// cmd/lockstepd and cmd/lockstep-edge. What concerns all pages is tested here. `make docs` writes
// the generated pages anew.
package pages

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the generated pages anew")

// Root returns the folder of the checkout.
func Root(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		if filepath.Dir(dir) == dir {
			t.Fatal("not inside the checkout: no go.mod here or above")
		}
		dir = filepath.Dir(dir)
	}
}

// Page is one Markdown file.
type Page struct {
	Path    string   // Path is relative to the root of the checkout.
	Blocks  []Block  // Blocks are the fenced ones, in order.
	Spans   []Span   // Spans are the texts in backquotes outside of blocks.
	Links   []Span   // Links are the targets of links and pictures.
	Prose   []Span   // Prose are the paragraphs, items and cells outside of blocks, one text each.
	Anchors []string // Anchors are those of the headings, as GitHub makes them.
}

// Block is a fenced block.
type Block struct {
	Lang string
	Text string
	Line int // Line is where the fence stands.
}

// Span is a text and the line on which it begins.
type Span struct {
	Text string
	Line int
}

// All returns every Markdown file that is tracked, or new and not ignored.
func All(t testing.TB) (all []Page) {
	t.Helper()
	root := Root(t)
	cmd := exec.Command("git", "-C", root, "ls-files", "-z", "--cached", "--others", "--exclude-standard", "*.md")
	out, err := cmd.Output()
	if err != nil {
		t.Skip("not a git checkout")
	}
	for _, path := range strings.Split(strings.TrimSuffix(string(out), "\x00"), "\x00") {
		b, err := os.ReadFile(filepath.Join(root, path))
		if os.IsNotExist(err) {
			continue // removed, and not committed yet
		}
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, Parse(path, b))
	}
	if len(all) < 10 {
		t.Fatalf("only %d pages were found", len(all))
	}
	return all
}

var (
	fence   = regexp.MustCompile("^\\s*```(.*)$")
	heading = regexp.MustCompile(`^#{1,6} +(.*)$`)
	item    = regexp.MustCompile(`^\s*([-*]|\d+\.) +`)
	span    = regexp.MustCompile("`([^`]+)`")
	link    = regexp.MustCompile(`\]\(([^()\s]+)\)`)
)

// Parse reads what the tests need of a page. It knows the Markdown that this project writes, no
// more.
func Parse(path string, b []byte) Page {
	p := Page{Path: path}
	seen := map[string]int{}
	var para []string
	began := 0
	end := func() {
		if len(para) > 0 {
			p.text(strings.Join(para, " "), began)
		}
		para = nil
	}
	var block *Block
	for i, line := range strings.Split(string(b), "\n") {
		if m := fence.FindStringSubmatch(line); m != nil {
			end()
			if block == nil {
				block = &Block{Lang: strings.TrimSpace(m[1]), Line: i + 1}
			} else {
				p.Blocks = append(p.Blocks, *block)
				block = nil
			}
			continue
		}
		if block != nil {
			block.Text += line + "\n"
			continue
		}
		trimmed := strings.TrimSpace(line)
		switch m := heading.FindStringSubmatch(line); {
		case trimmed == "":
			end()
		case m != nil:
			end()
			p.text(m[1], i+1)
			p.Anchors = append(p.Anchors, unique(anchor(m[1]), seen))
		case strings.HasPrefix(trimmed, "|"):
			end()
			for _, cell := range strings.Split(strings.Trim(trimmed, "|"), "|") {
				p.text(strings.TrimSpace(cell), i+1)
			}
		default:
			if item.MatchString(line) {
				end()
				trimmed = item.ReplaceAllString(line, "")
			}
			if len(para) == 0 {
				began = i + 1
			}
			para = append(para, strings.TrimSpace(trimmed))
		}
	}
	end()
	return p
}

func (p *Page) text(s string, line int) {
	if s == "" {
		return
	}
	p.Prose = append(p.Prose, Span{s, line})
	for _, m := range span.FindAllStringSubmatch(s, -1) {
		p.Spans = append(p.Spans, Span{m[1], line})
	}
	for _, m := range link.FindAllStringSubmatch(span.ReplaceAllString(s, ""), -1) {
		p.Links = append(p.Links, Span{m[1], line})
	}
}

var notInAnchor = regexp.MustCompile(`[^\p{L}\p{N}\- _]`)

// anchor is what GitHub makes of a heading.
func anchor(s string) string {
	s = strings.ToLower(strings.ReplaceAll(s, "`", ""))
	return strings.ReplaceAll(notInAnchor.ReplaceAllString(s, ""), " ", "-")
}

func unique(a string, seen map[string]int) string {
	n := seen[a]
	seen[a]++
	if n > 0 {
		return fmt.Sprintf("%s-%d", a, n)
	}
	return a
}

// Golden compares a generated page with the file, which -update writes anew.
func Golden(t testing.TB, path string, want []byte) {
	t.Helper()
	file := filepath.Join(Root(t), path)
	if *update {
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, want, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	have, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("%v: type make docs", err)
	}
	if bytes.Equal(have, want) {
		return
	}
	h, w := strings.Split(string(have), "\n"), strings.Split(string(want), "\n")
	for i := range w {
		if i >= len(h) || h[i] != w[i] {
			old := "(the end)"
			if i < len(h) {
				old = h[i]
			}
			t.Fatalf("%s is stale: type make docs. Line %d is\n  %s\nand should be\n  %s", path, i+1, old, w[i])
		}
	}
	t.Fatalf("%s is stale: type make docs. It has %d lines too many", path, len(h)-len(w))
}

// Between replaces what stands in a page between two marks, each a line of its own.
func Between(page []byte, begin, end string, with []byte) ([]byte, error) {
	i := bytes.Index(page, []byte(begin+"\n"))
	j := bytes.Index(page, []byte("\n"+end))
	if i < 0 || j < i {
		return nil, fmt.Errorf("the marks %s and %s are missing", begin, end)
	}
	i += len(begin) + 1
	return bytes.Join([][]byte{page[:i], with, page[j+1:]}, nil), nil
}
