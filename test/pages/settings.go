package pages

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/spf13/pflag"
)

const module = "github.com/lockstep-tls/lockstep/"

// Settings is what a page of settings is made of.
type Settings struct {
	Title string
	Intro string // Intro is Markdown.
	// Default is the configuration of one who says nothing: a struct whose fields have yaml tags.
	// The comments of the fields are the manual.
	Default any
	Flags   *pflag.FlagSet
	Env     string // Env begins the environment variables.
	// Lists has the defaults of one entry, for sections that are lists.
	Lists map[string]any
	// Also are sections that Default does not show.
	Also []Section
}

// Section is a part of the file with keys of its own.
type Section struct {
	Name  string // Name is as in the file: "scopes", "listeners".
	Intro string
	Value any // Value is a struct with the defaults.
}

// Page returns the page.
func (s Settings) Page(t testing.TB) []byte {
	t.Helper()
	var b strings.Builder
	b.WriteString("# " + s.Title + "\n\n" + made)
	for i, para := range strings.Split(strings.TrimSpace(s.Intro), "\n\n") {
		if i > 0 {
			b.WriteString("\n")
		}
		b.WriteString(fold(para, "") + "\n")
	}
	b.WriteString("\n## Keys, flags and variables\n")
	sections := s.keys(t, &b, reflect.ValueOf(s.Default), "")
	for _, sec := range append(sections, s.Also...) {
		b.WriteString("\n## " + sec.Name + "\n")
		if sec.Intro != "" {
			b.WriteString("\n" + fold(escape(sec.Intro), "") + "\n")
		}
		if more := s.keys(t, &b, reflect.ValueOf(sec.Value), sec.Name); len(more) > 0 {
			t.Errorf("%s has sections within: the page does not show them", sec.Name)
		}
	}
	return []byte(b.String())
}

// keyOf returns the YAML key of a field. ok is false for a field that is no setting.
func keyOf(f reflect.StructField) (key string, ok bool) {
	key, _, _ = strings.Cut(f.Tag.Get("yaml"), ",")
	if key == "" {
		key = snake(f.Name)
	}
	return key, key != "-" && f.IsExported()
}

// keys writes the keys of a struct, and returns those that are sections of their own.
func (s Settings) keys(t testing.TB, b *strings.Builder, v reflect.Value, section string) (sections []Section) {
	t.Helper()
	comments, intro := Comments(t, v.Type())
	if section != "" && intro != "" && !strings.Contains(intro, "the manual") {
		b.WriteString("\n" + fold(plain(intro, v.Type(), section), "") + "\n")
	}
	last := ""
	for i := range v.NumField() {
		f := v.Type().Field(i)
		key, ok := keyOf(f)
		if !ok {
			continue
		}
		text := comments[f.Name]
		if inner, ok := structOf(f.Type); ok {
			if inner.Kind() == reflect.Struct {
				sec := Section{Name: key, Value: v.Field(i).Interface()}
				if f.Type != inner {
					sec = Section{Name: key, Intro: "A list. Each entry has these keys.", Value: s.Lists[key]}
				}
				sections = append(sections, sec)
			}
			continue
		}
		b.WriteString("\n### `" + key + "`\n\n")
		var facts []string
		if section == "" {
			if f := s.Flags.Lookup(strings.ReplaceAll(key, "_", "-")); f != nil {
				facts = append(facts, fmt.Sprintf("`--%s`, `%s`", f.Name, s.Env+strings.ToUpper(key)))
			} else {
				facts = append(facts, "in the file only")
			}
		}
		facts = append(facts, kind(f.Type))
		if d := shown(v.Field(i)); d != "" {
			facts = append(facts, "default `"+d+"`")
		}
		line := strings.Join(facts, "; ") + "."
		b.WriteString(fold(strings.ToUpper(line[:1])+line[1:], "") + "\n")
		switch {
		case text != "":
			last = text
		case last == "":
			t.Errorf("%s.%s has no comment: it is the manual", v.Type(), f.Name)
		default:
			text = last // one comment for several keys
		}
		b.WriteString("\n" + fold(plain(text, v.Type(), key), "") + "\n")
	}
	return sections
}

// structOf returns the struct behind a field that is a section: a struct, or a list of them.
func structOf(t reflect.Type) (reflect.Type, bool) {
	if t.Kind() == reflect.Slice {
		t = t.Elem()
	}
	return t, t.Kind() == reflect.Struct
}

func kind(t reflect.Type) string {
	switch {
	case t == reflect.TypeFor[time.Duration]():
		return "a duration, such as `500ms`, `5s` or `2h`"
	case t.Kind() == reflect.String:
		return "text"
	case t.Kind() == reflect.Bool:
		return "`true` or `false`"
	case t.Kind() == reflect.Int:
		return "a whole number"
	case t.Kind() == reflect.Float64:
		return "a share, such as `0.9` or `90%`"
	case t.Kind() == reflect.Slice:
		return "a list of texts"
	}
	return t.String()
}

// shown is a default as one writes it; empty for one that is none.
func shown(v reflect.Value) string {
	if v.IsZero() {
		return ""
	}
	if d, ok := v.Interface().(time.Duration); ok {
		s := d.String()
		for _, zero := range []string{"m0s", "h0m"} {
			if strings.HasSuffix(s, zero) {
				s = s[:len(s)-2]
			}
		}
		return s
	}
	if v.Kind() == reflect.Float64 {
		return fmt.Sprintf("%.0f%%", v.Float()*100)
	}
	return fmt.Sprint(v.Interface())
}

func snake(s string) string {
	var b strings.Builder
	for i, r := range s {
		if unicode.IsUpper(r) && i > 0 {
			b.WriteByte('_')
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
}

var goName = regexp.MustCompile(`[A-Z][A-Za-z]+`)

// plain writes a comment for readers of the page: fields under the names of their keys.
func plain(text string, t reflect.Type, key string) string {
	keys := map[string]string{}
	for i := range t.NumField() {
		f := t.Field(i)
		k, _, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		switch k {
		case "-":
		case "":
			keys[f.Name] = snake(f.Name)
		default:
			keys[f.Name] = k
		}
	}
	text = strings.Join(strings.Fields(text), " ")
	var b strings.Builder
	at := 0
	for _, m := range goName.FindAllStringIndex(text, -1) {
		word := text[m[0]:m[1]]
		k, ok := keys[word]
		before := text[:m[0]]
		begins := before == "" || strings.HasSuffix(before, ". ")
		coined := strings.ToLower(word[1:]) != word[1:] // XDSListen, KEK
		if !ok || begins && !coined && before != "" ||
			strings.HasSuffix(before, "-") || strings.HasSuffix(before, "$") {
			continue
		}
		b.WriteString(escape(text[at:m[0]]) + "`" + k + "`")
		at = m[1]
	}
	b.WriteString(escape(text[at:]))
	return b.String()
}

// Comments returns the comments of a struct's fields, and of the struct itself without its name.
func Comments(t testing.TB, typ reflect.Type) (fields map[string]string, own string) {
	t.Helper()
	dir, ok := strings.CutPrefix(typ.PkgPath(), module)
	if !ok {
		t.Fatalf("%s is not of this project", typ)
	}
	fields = map[string]string{}
	found := false
	for _, f := range Sources(t, dir) {
		for _, d := range f.Decls {
			g, ok := d.(*ast.GenDecl)
			if !ok {
				continue
			}
			for _, spec := range g.Specs {
				ts, ok := spec.(*ast.TypeSpec)
				if !ok || ts.Name.Name != typ.Name() {
					continue
				}
				found = true
				doc := ts.Doc
				if doc == nil {
					doc = g.Doc
				}
				own = doc.Text()
				for _, field := range ts.Type.(*ast.StructType).Fields.List {
					text := strings.TrimSpace(field.Doc.Text() + " " + field.Comment.Text())
					for _, n := range field.Names {
						fields[n.Name] = text
					}
				}
			}
		}
	}
	if !found {
		t.Fatalf("no type %s in %s", typ.Name(), dir)
	}
	return fields, own
}

// Sources parses the Go files of a folder, without its tests. The path is relative to the checkout.
func Sources(t testing.TB, dir string) (all []*ast.File) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(Root(t), dir, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	set := token.NewFileSet()
	for _, path := range files {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(set, path, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, f)
	}
	if len(all) == 0 {
		t.Fatalf("no Go files in %s", dir)
	}
	return all
}
