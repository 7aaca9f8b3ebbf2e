package config

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/keysource/eager"
	"github.com/lockstep-tls/lockstep/rotation"
)

// Listeners says which listener lockstepd serves to Envoys, by LDS on ADS. Their bootstrap is
// `lockstep bootstrap envoy --mode hybrid`. It says also which hosts are eager: these get a filter
// chain of their own, with session tickets. All others share one chain, which fetches certificates
// on demand and resumes no sessions.
type Listeners struct {
	// Template is a file with one listener in Envoy's YAML. It has a name, an address, and one
	// filter chain with the filters that every host gets. It is read again as it changes. A bad one
	// is refused, and the last good one stays. Without a template no listener is served.
	Template string `yaml:"template"`
	// Scope is the scope whose ticket keys the chains use (default).
	Scope string `yaml:"scope"`
	// Hosts are eager. They are exact server names. *.example.com is the wildcard's own chain, for
	// every name below example.com that has none itself.
	Hosts []string `yaml:"hosts"`
	// Match makes certificates eager whose names a glob matches (*.example.com, api-*, *), in the
	// directory and the store. A star matches dots too. Without Match nothing lists all
	// certificates.
	Match []string `yaml:"match"`
	// MaxEager bounds the eager hosts (2000). Each costs every Envoy some 65 KB. The others go on
	// demand. Hosts count first, then the pinned ones (lockstep host pin), oldest first, then what
	// Match finds, by name.
	MaxEager int `yaml:"max_eager"`
}

// Names returns Hosts as server names.
func (l Listeners) Names() (names []keysource.Name) {
	for _, h := range l.Hosts {
		if n, err := keysource.ServerName(h); err == nil { // check has refused others
			names = append(names, n)
		}
	}
	return names
}

// check refuses bad settings, and fills in the defaults of others.
func (l *Listeners) check(scopes map[string]rotation.Policy) error {
	if l.Template == "" {
		if l.Scope != "" || len(l.Hosts) > 0 || len(l.Match) > 0 || l.MaxEager != 0 {
			return errors.New("template is missing: without it no listener is served")
		}
		return nil
	}
	if l.Scope == "" {
		l.Scope = "default"
	}
	if _, ok := scopes[l.Scope]; !ok {
		return fmt.Errorf("scope: %q is not among the scopes", l.Scope)
	}
	if l.MaxEager == 0 {
		l.MaxEager = eager.DefaultMax
	}
	if l.MaxEager < 0 {
		return fmt.Errorf("max_eager: %d is negative", l.MaxEager)
	}
	seen := map[keysource.Name]bool{}
	for _, h := range l.Hosts {
		n, err := keysource.ServerName(h)
		if err != nil {
			return fmt.Errorf("hosts: %w", err)
		}
		if seen[n] {
			return fmt.Errorf("hosts: %q stands there twice", n)
		}
		seen[n] = true
	}
	l.Match = slices.Clone(l.Match)
	for i, glob := range l.Match {
		if _, err := path.Match(glob, ""); err != nil || glob == "" {
			return fmt.Errorf("match: %q is no glob", glob)
		}
		l.Match[i] = strings.ToLower(glob) // as server names are
	}
	return nil
}
