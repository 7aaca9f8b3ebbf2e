// Package strictyaml reads configuration files. It refuses what a configuration cannot mean, and
// says where it stands.
//
// It is goccy/go-yaml alone, strict and without tags. No layering library stands above it
// (package config says why).
package strictyaml

import (
	"fmt"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// Unmarshal decodes a file of one YAML document over what v points to. It refuses keys that v does
// not know. It refuses tags (!x), which mean nothing in our files and crash go-yaml v1.19.2. A file
// without a document leaves v as it is. Errors say where, as [line:column].
func Unmarshal(b []byte, v any) error {
	tree, err := parser.ParseBytes(b, 0)
	if err != nil {
		return err
	}
	if len(tree.Docs) > 1 {
		return fmt.Errorf("there are %d documents, separated by ---: one is enough", len(tree.Docs))
	}
	if len(tree.Docs) == 0 || tree.Docs[0].Body == nil {
		return nil
	}
	body := tree.Docs[0].Body
	var tags tagFinder
	ast.Walk(&tags, body)
	if tags.first != nil {
		at := tags.first.GetToken().Position
		return fmt.Errorf("[%d:%d] the tag %s means nothing here: take it away, or put the value in quotes", at.Line,
			at.Column, tags.first.Start.Value)
	}
	return yaml.NodeToValue(body, v, options...)
}

// tagFinder is an ast.Visitor.
type tagFinder struct{ first *ast.TagNode }

func (f *tagFinder) Visit(n ast.Node) ast.Visitor {
	if t, ok := n.(*ast.TagNode); ok && f.first == nil {
		f.first = t
	}
	return f
}
