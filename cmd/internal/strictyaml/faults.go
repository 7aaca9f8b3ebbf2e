package strictyaml

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// Fault is one thing that is wrong with a file.
type Fault struct {
	Line int    // Line counts from 1. It is 0 if the fault has no place.
	Key  string // Key is where it stands, as in [Lines]. It may be empty.
	Text string
}

func (f Fault) Error() string { return f.Text }

// Decode does what [Unmarshal] does, and returns everything that is wrong with the file, in the
// order of lines. The texts quote no other line.
func Decode(b []byte, v any) []Fault {
	err := Unmarshal(b, v)
	if err == nil {
		return nil
	}
	first := faultOf(err, "")
	tree, err := parser.ParseBytes(b, 0)
	if err != nil || len(tree.Docs) != 1 || tree.Docs[0].Body == nil {
		return []Fault{first}
	}
	var w walker
	ast.Walk(&w.refs, tree.Docs[0].Body)
	if !w.refs.any { // with references a part of the file means nothing by itself
		w.decode(tree.Docs[0].Body, reflect.TypeOf(v).Elem(), "")
	}
	if len(w.faults) == 0 {
		return []Fault{first}
	}
	slices.SortStableFunc(w.faults, func(a, b Fault) int { return a.Line - b.Line })
	return w.faults
}

// faultOf takes the place out of an error of go-yaml, and leaves the lines around it out.
func faultOf(err error, key string) Fault {
	var in yaml.Error
	if !errors.As(err, &in) || in.GetToken() == nil {
		f := Fault{Key: key, Text: err.Error()}
		if n, _ := fmt.Sscanf(f.Text, "[%d:", &f.Line); n == 1 {
			_, f.Text, _ = strings.Cut(f.Text, "] ")
		}
		if key != "" {
			f.Text = key + ": " + strings.TrimPrefix(f.Text, "time: ")
		}
		return f
	}
	text := in.GetMessage()
	text = plain(text, in.GetToken().Value)
	if key != "" {
		text = key + ": " + text
	}
	return Fault{Line: in.GetToken().Position.Line, Key: key, Text: text}
}

// Lines returns the line of each key of a file. The keys are those of mappings with dots between
// them, and [i] for the items of lists: scopes.default.period, listeners[0].address. It is empty if
// the file is no YAML.
func Lines(b []byte) map[string]int {
	lines := map[string]int{}
	tree, err := parser.ParseBytes(b, 0)
	if err != nil || len(tree.Docs) == 0 || tree.Docs[0].Body == nil {
		return lines
	}
	var note func(n ast.Node, key string)
	note = func(n ast.Node, key string) {
		if key != "" && n.GetToken() != nil && lines[key] == 0 {
			lines[key] = n.GetToken().Position.Line
		}
		for _, m := range pairs(n) {
			name := Join(key, m.Key.GetToken().Value)
			lines[name] = m.Key.GetToken().Position.Line
			note(m.Value, name)
		}
		if s, ok := n.(*ast.SequenceNode); ok {
			for i, item := range s.Values {
				note(item, fmt.Sprintf("%s[%d]", key, i))
			}
		}
	}
	note(tree.Docs[0].Body, "")
	return lines
}

// walker decodes a file part by part, so that one fault does not hide another.
type walker struct {
	refs   refFinder
	faults []Fault
}

func (w *walker) decode(n ast.Node, t reflect.Type, key string) {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	ms, isMap := pairs(n), len(pairs(n)) > 0
	switch {
	case isMap && t.Kind() == reflect.Struct:
		fields := Fields(t)
		for _, m := range ms {
			name := m.Key.GetToken().Value
			if f, ok := fields[name]; ok {
				w.decode(m.Value, f, Join(key, name))
				continue
			}
			w.faults = append(w.faults, Fault{
				m.Key.GetToken().Position.Line, Join(key, name), fmt.Sprintf("unknown key %q", Join(key, name)),
			})
		}
	case isMap && t.Kind() == reflect.Map:
		for _, m := range ms {
			w.decode(m.Value, t.Elem(), Join(key, m.Key.GetToken().Value))
		}
	case t.Kind() == reflect.Slice && n.Type() == ast.SequenceType:
		for i, item := range n.(*ast.SequenceNode).Values {
			w.decode(item, t.Elem(), fmt.Sprintf("%s[%d]", key, i))
		}
	case n.Type() == ast.NullType:
	default:
		if err := yaml.NodeToValue(n, reflect.New(t).Interface(), options...); err != nil {
			f := faultOf(err, key)
			if f.Line == 0 && n.GetToken() != nil {
				f.Line = n.GetToken().Position.Line
			}
			w.faults = append(w.faults, f)
		}
	}
}

// Fields returns the types of the keys that a struct takes in YAML.
func Fields(t reflect.Type) map[string]reflect.Type {
	all := map[string]reflect.Type{}
	for i := range t.NumField() {
		f := t.Field(i)
		name, opts, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		switch {
		case name == "-":
		case strings.Contains(opts, "inline"):
			for name, inner := range Fields(f.Type) {
				if _, ok := all[name]; !ok {
					all[name] = inner
				}
			}
		case name != "":
			all[name] = f.Type
		}
	}
	return all
}

// pairs returns the keys and values of a mapping, or nil.
func pairs(n ast.Node) []*ast.MappingValueNode {
	switch n := n.(type) {
	case *ast.MappingNode:
		return n.Values
	case *ast.MappingValueNode:
		return []*ast.MappingValueNode{n}
	}
	return nil
}

// Join returns the key name below key.
func Join(key, name string) string {
	if key == "" {
		return name
	}
	return key + "." + name
}

// refFinder is an ast.Visitor that looks for anchors, aliases and merge keys.
type refFinder struct{ any bool }

func (f *refFinder) Visit(n ast.Node) ast.Visitor {
	switch n.Type() {
	case ast.AnchorType, ast.AliasType, ast.MergeKeyType:
		f.any = true
	}
	return f
}
