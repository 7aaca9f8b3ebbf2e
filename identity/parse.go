package identity

import (
	"errors"
	"fmt"
	"slices"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// ErrBadPolicy: the text is no policy; the error names the rule and its line.
var ErrBadPolicy = errors.New("bad policy")

// maxPolicy bounds what is parsed, in bytes: 100 000 rules stay below it.
const maxPolicy = 32 << 20

// Parse reads policy.yaml:
//
//	rules:
//	- identity: "spiffe://fleet.example/edge/*"   # SPIFFE ID, DNS name of the client certificate, or unix:uid=1000
//	  scopes: [default]                           # ticket keys; "*" is every scope
//	  names: ["*.example", "shop.example"]        # certificates; "*" is every name
//	  nodes: ["edge-{1}"]                         # node ids that the identity may use; without it any
//	- identity: "spiffe://fleet.example/ops/*"
//	  admin: [read]                               # the admin API, off loopback: read, operate or admin
//
// A star in an identity stands for any characters, slashes and dots included, and there may be one;
// "*" alone is everybody, those of whom nothing is known included. A name "*.example" covers every
// name that ends in .example, however many labels are before it, and those of wildcard certificates
// ("*.example" itself, "*.a.example"); "example" it does not cover. In nodes a star stands for any
// characters, and {1} for what the star of the identity matched. An identity that matches a rule
// with nodes may use the ids that its rules list, and no others. Rules add up. "rules: []" denies
// everything.
func Parse(b []byte) (*Policy, error) {
	rules, faults := parseAll(b)
	if len(faults) > 0 {
		return nil, faults[0]
	}
	return newPolicy(rules), nil
}

// Faults returns an error for each rule for which Parse refuses a text, or the one error of a text
// that is no list of rules. Each wraps [ErrBadPolicy].
func Faults(b []byte) []error {
	_, faults := parseAll(b)
	return faults
}

func parseAll(b []byte) (_ []rule, faults []error) {
	file, lines, err := read(b)
	if err != nil {
		return nil, []error{err}
	}
	rules := make([]rule, len(file))
	for i, text := range file {
		if rules[i], err = text.rule(); err != nil {
			at := fmt.Sprintf("rule %d", i+1)
			var spot *spotError
			switch {
			case errors.As(err, &spot):
				at += fmt.Sprintf(" (line %d)", spot.line)
			case i < len(lines):
				at += fmt.Sprintf(" (line %d)", lines[i])
			}
			faults = append(faults, fmt.Errorf("%w: %s: %w", ErrBadPolicy, at, err))
		}
	}
	return rules, faults
}

// read decodes the rules, and finds the lines on which they begin.
func read(b []byte) (rules []ruleText, lines []int, err error) {
	if len(b) > maxPolicy {
		return nil, nil, fmt.Errorf("%w: %d bytes, at most %d", ErrBadPolicy, len(b), maxPolicy)
	}
	tree, err := parser.ParseBytes(b, 0)
	if err != nil {
		return nil, nil, badYAML(err)
	}
	if len(tree.Docs) > 1 {
		return nil, nil, fmt.Errorf("%w: line %d begins a second document: put all rules under one \"rules:\"",
			ErrBadPolicy, firstLine(tree.Docs[1]))
	}
	if len(tree.Docs) == 0 || tree.Docs[0].Body == nil {
		return nil, nil, fmt.Errorf("%w: it is empty: \"rules: []\" denies everything", ErrBadPolicy)
	}
	body := tree.Docs[0].Body
	var tags tagFinder
	if ast.Walk(&tags, body); tags.first != nil {
		return nil, nil, fmt.Errorf("%w: line %d: the tag %s means nothing here: put the value in quotes",
			ErrBadPolicy, line(tags.first), tags.first.Start.Value)
	}
	lines = ruleLines(body)
	var null nullFinder
	if ast.Walk(&null, body); null.line > 0 {
		nr, _ := slices.BinarySearch(lines, null.line+1)
		return nil, nil, fmt.Errorf("%w: rule %d (line %d): %w", ErrBadPolicy, nr, null.line, errNoIDs)
	}
	var file struct {
		Rules *[]ruleText `yaml:"rules"`
	}
	if err := yaml.NodeToValue(body, &file, yaml.Strict()); err != nil {
		return nil, nil, badYAML(err)
	}
	if file.Rules == nil {
		return nil, nil, fmt.Errorf("%w: there is no \"rules:\": \"rules: []\" denies everything", ErrBadPolicy)
	}
	return *file.Rules, lines, nil
}

// ruleText is a rule as it is written.
type ruleText struct {
	Identity word   `yaml:"identity"`
	Scopes   []word `yaml:"scopes"`
	Names    []word `yaml:"names"`
	Admin    []word `yaml:"admin"`
	Nodes    *words `yaml:"nodes"`
}

func (t ruleText) rule() (r rule, err error) {
	if t.Identity == (word{}) {
		return r, errors.New("identity is missing")
	}
	if r.who, err = parsePattern(t.Identity.text); err != nil {
		return r, t.Identity.blame("identity", err)
	}
	for _, w := range t.Scopes {
		if err := r.grant.addScope(w.text); err != nil {
			return r, w.blame("scopes", err)
		}
	}
	for _, w := range t.Names {
		if err := r.grant.addName(w.text); err != nil {
			return r, w.blame("names", err)
		}
	}
	for _, w := range t.Admin {
		if err := r.grant.addRole(w.text); err != nil {
			return r, w.blame("admin", err)
		}
	}
	if t.Identity.text == "*" && len(t.Admin) > 0 {
		return r, t.Identity.blame("identity", errors.New("\"*\" would open the admin API to every certificate: "+
			"name those who may use it"))
	}
	if t.Nodes != nil {
		if r.nodes, err = t.parseIDs(r.who.star || r.who.kind == anyKind); err != nil {
			return r, err
		}
	}
	if len(t.Scopes)+len(t.Names)+len(t.Admin)+len(r.nodes) == 0 {
		return r, errors.New("it grants nothing: give scopes, names, nodes or admin, or leave the rule out")
	}
	r.text = t.Identity.text
	return r, nil
}

// words are a list, and the line on which it begins. An empty one differs from one that is missing.
type words struct {
	words []word
	line  int
}

// UnmarshalYAML takes a list of texts. It is not called for a null.
func (w *words) UnmarshalYAML(n ast.Node) error {
	w.line = line(n)
	switch n := n.(type) {
	case *ast.AnchorNode:
		return w.UnmarshalYAML(n.Value)
	case *ast.SequenceNode:
		for _, v := range n.Values {
			var one word
			if err := one.UnmarshalYAML(v); err != nil {
				return err
			}
			w.words = append(w.words, one)
		}
		return nil
	}
	return &spotError{line(n), fmt.Errorf("%s is no list: write [\"%s\"]", n, n)}
}

// word is a string and the line that it stands on.
type word struct {
	text string
	line int
}

// UnmarshalYAML takes text alone: 1e3 or on, without quotes, would be something else, and no name.
func (w *word) UnmarshalYAML(n ast.Node) error {
	switch n := n.(type) {
	case *ast.StringNode:
		*w = word{n.Value, line(n)}
		return nil
	case *ast.AnchorNode:
		return w.UnmarshalYAML(n.Value)
	}
	return &spotError{line(n), fmt.Errorf("%s is not text: put it in quotes", n)}
}

func (w word) blame(key string, err error) error {
	return &spotError{w.line, fmt.Errorf("%s: %w", key, err)}
}

// spotError knows its line.
type spotError struct {
	line int
	err  error
}

func (e *spotError) Error() string { return e.err.Error() }
func (e *spotError) Unwrap() error { return e.err }

func badYAML(err error) error {
	var spot *spotError
	if errors.As(err, &spot) {
		return fmt.Errorf("%w: line %d: %w", ErrBadPolicy, spot.line, err)
	}
	return fmt.Errorf("%w: at [line:column] %s", ErrBadPolicy, yaml.FormatError(err, false, false))
}

// ruleLines are the lines on which the rules begin.
func ruleLines(body ast.Node) (lines []int) {
	m, ok := body.(*ast.MappingNode)
	if !ok || len(m.Values) != 1 {
		return nil
	}
	rules, ok := m.Values[0].Value.(*ast.SequenceNode)
	if !ok {
		return nil
	}
	for _, n := range rules.Values {
		lines = append(lines, line(n))
	}
	return lines
}

// tagFinder is an ast.Visitor: go-yaml v1.19.2 panics when it decodes some values that have a tag.
type tagFinder struct{ first *ast.TagNode }

func (f *tagFinder) Visit(n ast.Node) ast.Visitor {
	if t, ok := n.(*ast.TagNode); ok && f.first == nil {
		f.first = t
	}
	return f
}

// nullFinder is an ast.Visitor. It finds a nodes key without a value. To the decoder that is no key
// at all, and then the rule would bind nobody.
type nullFinder struct{ line int }

func (f *nullFinder) Visit(n ast.Node) ast.Visitor {
	if m, ok := n.(*ast.MappingValueNode); ok && f.line == 0 && m.Key.GetToken().Value == "nodes" {
		if _, null := m.Value.(*ast.NullNode); null {
			f.line = line(m.Key)
		}
	}
	return f
}

// firstLine is where a document begins. One with nothing in it has no token of its own.
func firstLine(d *ast.DocumentNode) int {
	switch {
	case d.Start != nil:
		return d.Start.Position.Line
	case d.Body != nil:
		return line(d.Body)
	case d.End != nil:
		return d.End.Position.Line
	}
	return 0
}

func line(n ast.Node) int {
	if t := n.GetToken(); t != nil && t.Position != nil {
		return t.Position.Line
	}
	return 0
}
