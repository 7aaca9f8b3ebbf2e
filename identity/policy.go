package identity

import (
	"maps"
	"slices"
	"sync"

	"github.com/lockstep-tls/lockstep/keysource"
)

// Policy says what each identity may have; what no rule grants is denied. It does not change, and
// is safe for concurrent use. A decision for an identity that was seen before costs a few map
// look-ups, however many rules there are.
type Policy struct {
	rules []rule
	index index

	mu    sync.RWMutex
	known map[string]*grant // by identity
	same  map[string]*grant // by the rules that are merged: many identities share a grant
}

// rule as it was parsed.
type rule struct {
	who   pattern
	text  string // text is the identity as it is written.
	grant grant
	nodes ids // nodes are the ids that its identities may use. It is nil if it says nothing of ids.
}

// maxKnown bounds what is kept of identities, whoever connects.
const maxKnown = 1 << 16

func newPolicy(rules []rule) *Policy {
	patterns := make([]pattern, len(rules))
	for i, r := range rules {
		patterns[i] = r.who
	}
	return &Policy{rules: rules, index: newIndex(patterns), known: map[string]*grant{}, same: map[string]*grant{}}
}

// AllowsScope reports whether a node may have the ticket keys of a scope.
func (p *Policy) AllowsScope(identity, scope string) bool { return p.of(identity).hasScope(scope) }

// AllowsName reports whether a node may have the certificate that is served under n. It goes by the
// name that is asked for: a node that may ask for shop.example.com gets the wildcard certificate
// that covers it where there is no other.
func (p *Policy) AllowsName(identity string, n keysource.Name) bool {
	return p.of(identity).hasName(n.Host())
}

// Role is what somebody with a certificate of this identity may do at the admin API. Nodes need
// none.
func (p *Policy) Role(identity string) Role { return p.of(identity).role }

// Rules is how many there are.
func (p *Policy) Rules() int { return len(p.rules) }

// Scopes are those that rules name, sorted.
func (p *Policy) Scopes() []string {
	named := map[string]struct{}{}
	for _, r := range p.rules {
		maps.Copy(named, r.grant.scopes)
	}
	return slices.Sorted(maps.Keys(named))
}

// of is all that rules grant to an identity.
func (p *Policy) of(identity string) *grant {
	p.mu.RLock()
	g := p.known[identity]
	p.mu.RUnlock()
	if g != nil {
		return g
	}
	rules := p.index.of(identity)
	set := make([]byte, 0, 4*len(rules))
	for _, nr := range rules {
		set = append(set, byte(nr), byte(nr>>8), byte(nr>>16), byte(nr>>24))
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.known) >= maxKnown {
		clear(p.known)
		clear(p.same)
	}
	if g = p.same[string(set)]; g == nil {
		g = &grant{}
		for _, nr := range rules {
			g.add(p.rules[nr].grant)
		}
		p.same[string(set)] = g
	}
	p.known[identity] = g
	return g
}
