package identity

import (
	"strings"

	"github.com/lockstep-tls/lockstep/keysource"
)

// Granting is a rule that grants something.
type Granting struct {
	Rule     int      // Rule is its number. The first one is 1.
	Identity string   // Identity is the pattern as it is written.
	Nodes    []string // Nodes are the ids that it lists. They are nil if it lists none.
}

// WhoMayScope returns the rules that grant the ring of a scope, in order.
func (p *Policy) WhoMayScope(scope string) []Granting {
	return p.who(func(g *grant) bool { return g.hasScope(scope) })
}

// WhoMayName returns the rules that grant the certificate that is served under n, in order.
func (p *Policy) WhoMayName(n keysource.Name) []Granting {
	return p.who(func(g *grant) bool { return g.hasName(n.Host()) })
}

// WhoBinds returns the rules that list the node ids that an identity may use, in order.
func (p *Policy) WhoBinds(identity string) (out []Granting) {
	for _, nr := range p.index.of(identity) {
		if p.rules[nr].nodes != nil {
			out = append(out, p.granting(int(nr)))
		}
	}
	return out
}

func (p *Policy) who(grants func(*grant) bool) (out []Granting) {
	for i := range p.rules {
		if grants(&p.rules[i].grant) {
			out = append(out, p.granting(i))
		}
	}
	return out
}

func (p *Policy) granting(i int) Granting {
	g := Granting{Rule: i + 1, Identity: p.rules[i].text}
	for _, id := range p.rules[i].nodes {
		g.Nodes = append(g.Nodes, strings.Join(id, "*"))
	}
	return g
}
