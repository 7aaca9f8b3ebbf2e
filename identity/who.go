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
	return p.who(func(g *grant) bool { return g.hasName(n) })
}

func (p *Policy) who(grants func(*grant) bool) (out []Granting) {
	for i := range p.rules {
		r := &p.rules[i]
		if !grants(&r.grant) {
			continue
		}
		g := Granting{Rule: i + 1, Identity: r.text}
		for _, id := range r.nodes {
			g.Nodes = append(g.Nodes, strings.Join(id, "*"))
		}
		out = append(out, g)
	}
	return out
}
