package identity

import (
	"errors"
	"fmt"
	"strings"
)

// ids are the node ids that a rule's nodes list.
type ids []idPattern

// idPattern is a node id as a rule writes it. The parts are the texts around its stars. Each star
// stands for any characters, also none. A part may hold captureMark.
type idPattern []string

const (
	// captureMark stands for what the star of the rule's identity matched.
	captureMark = "{1}"
	// maxIDPattern bounds an entry in bytes. A node id is at most as long.
	maxIDPattern = 256
	// maxStars bounds the stars of an entry.
	maxStars = 8
)

var errNoIDs = errors.New("nodes: it is empty, and so no node could connect: " +
	"list the ids that the identity may use, or leave nodes out")

// parseIDs reads a rule's nodes. star says that the rule's identity has a star.
func (t ruleText) parseIDs(star bool) (list ids, err error) {
	if len(t.Nodes.words) == 0 {
		return nil, &spotError{t.Nodes.line, errNoIDs}
	}
	for _, w := range t.Nodes.words {
		p, err := parseIDPattern(w.text, star)
		if err != nil {
			return nil, w.blame("nodes", err)
		}
		list = append(list, p)
	}
	return list, nil
}

func parseIDPattern(s string, star bool) (idPattern, error) {
	rest := strings.ReplaceAll(s, captureMark, "")
	switch {
	case s == "":
		return nil, errors.New("an id is empty; \"*\" is every id")
	case len(s) > maxIDPattern:
		return nil, fmt.Errorf("%.40q… has more than %d bytes", s, maxIDPattern)
	case strings.ContainsAny(rest, "{}"):
		return nil, fmt.Errorf("%q: only {1} may stand in braces: it is what the star of the identity matched", s)
	case !star && rest != s:
		return nil, fmt.Errorf("%q: {1} is what the star of the identity matched, and this identity has no star", s)
	case strings.Contains(s, captureMark+"*"), strings.Contains(s, "*"+captureMark),
		strings.Contains(s, captureMark+captureMark):
		return nil, fmt.Errorf("%q: put a character between {1} and what follows or precedes it: "+
			"else the id of one identity may be another's", s)
	case strings.Count(s, "*") > maxStars:
		return nil, fmt.Errorf("%q has more than %d stars", s, maxStars)
	}
	return strings.Split(s, "*"), nil
}

// matches reports whether id is what the entry says. captured is what the star of the identity
// matched. It is taken as it is, so a star in it is no star of the entry.
func (p idPattern) matches(id, captured string) bool {
	part := func(i int) string { return strings.ReplaceAll(p[i], captureMark, captured) }
	last := len(p) - 1
	if last == 0 {
		return id == part(0)
	}
	rest, ok := strings.CutPrefix(id, part(0))
	if !ok {
		return false
	}
	for i := 1; i < last; i++ {
		_, after, found := strings.Cut(rest, part(i))
		if !found {
			return false
		}
		rest = after
	}
	return strings.HasSuffix(rest, part(last))
}

// AllowsNode reports whether a node of an identity may call itself id. It may if no rule that
// matches the identity has nodes, or if one of them lists the id. It gives and takes nothing else:
// scopes and names go by the identity, since whoever has that can use each of its ids.
func (p *Policy) AllowsNode(identity, id string) bool {
	bound, listed, _ := p.lists(identity, id)
	return listed || !bound
}

// NamesNode reports whether a rule that matches the identity names the id itself, without a star.
// Else the identity may have others that it can use as well.
func (p *Policy) NamesNode(identity, id string) bool {
	_, _, named := p.lists(identity, id)
	return named
}

// lists says whether rules that match the identity have nodes (bound), whether one of them lists
// the id, and whether one does so without a star (named).
func (p *Policy) lists(identity, id string) (bound, listed, named bool) {
	look := func(list ids, captured string) {
		for _, p := range list {
			if p.matches(id, captured) {
				listed, named = true, named || len(p) == 1
			}
		}
	}
	for _, nr := range p.index.of(identity) {
		r := &p.rules[nr]
		if r.nodes == nil {
			continue
		}
		bound = true
		if r.who.kind == anyKind && identity == "" {
			look(r.nodes, "")
		}
		for name := range strings.FieldsSeq(identity) {
			if r.who.matches(name) {
				look(r.nodes, r.who.captured(name))
			}
		}
	}
	return bound, listed, named
}

// captured returns what the star of p matched in name, which p matches. It is empty if p has none.
func (p pattern) captured(name string) string {
	switch {
	case p.kind == anyKind:
		return name
	case !p.star:
		return ""
	}
	return name[len(p.head) : len(name)-len(p.tail)]
}
