package identity

import (
	"fmt"
	"maps"
	"strings"

	"github.com/lockstep-tls/lockstep/keysource"
)

// grant is what a rule gives, or several.
type grant struct {
	role                Role // role is what it may do at the admin API.
	allScopes, allNames bool
	scopes              map[string]struct{}
	names               map[keysource.Name]struct{}
	below               map[string]struct{} // "example.com": every name that ends in .example.com
}

func (g *grant) add(other grant) {
	g.role = max(g.role, other.role)
	g.allScopes = g.allScopes || other.allScopes
	g.allNames = g.allNames || other.allNames
	merge(&g.scopes, other.scopes)
	merge(&g.names, other.names)
	merge(&g.below, other.below)
}

func merge[K comparable](to *map[K]struct{}, from map[K]struct{}) {
	if *to == nil && len(from) > 0 {
		*to = make(map[K]struct{}, len(from))
	}
	maps.Copy(*to, from)
}

func (g *grant) hasScope(scope string) bool {
	if g.allScopes {
		return true
	}
	_, ok := g.scopes[scope]
	return ok
}

func (g *grant) hasName(n keysource.Name) bool {
	if g.allNames {
		return true
	}
	if _, ok := g.names[n]; ok {
		return true
	}
	if len(g.below) == 0 {
		return false
	}
	if _, address := n.Address(); address {
		return false
	}
	for _, parent, ok := strings.Cut(string(n), "."); ok; _, parent, ok = strings.Cut(parent, ".") {
		if _, ok := g.below[parent]; ok {
			return true
		}
	}
	return false
}

// addScope takes an element of a rule's scopes.
func (g *grant) addScope(s string) error {
	if s == "*" {
		g.allScopes = true
		return nil
	}
	if s == "" || len(s) > 63 || strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789-_") != "" {
		return fmt.Errorf("%q is no scope: a scope's name has 1 to 63 of a-z, 0-9, - and _; \"*\" is every scope", s)
	}
	merge(&g.scopes, map[string]struct{}{s: {}})
	return nil
}

// addRole takes an element of a rule's admin.
func (g *grant) addRole(s string) error {
	r, err := ParseRole(s)
	g.role = max(g.role, r)
	return err
}

// addName takes an element of a rule's names.
func (g *grant) addName(s string) error {
	if s == "*" {
		g.allNames = true
		return nil
	}
	n, err := keysource.ServerName(s)
	if err != nil {
		if second, bad := keysource.CertName(s); bad == nil {
			return fmt.Errorf("%q is the second certificate of a host: name %q, which grants both", s, second.Host())
		}
		return err // quotes it
	}
	if parent, ok := strings.CutPrefix(string(n), "*."); ok {
		merge(&g.below, map[string]struct{}{parent: {}})
	} else {
		merge(&g.names, map[keysource.Name]struct{}{n: {}})
	}
	return nil
}
