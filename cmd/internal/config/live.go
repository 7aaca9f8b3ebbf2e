package config

import (
	"maps"
	"strings"

	"github.com/spf13/pflag"

	"github.com/lockstep-tls/lockstep/cmd/internal/settings"
	"github.com/lockstep-tls/lockstep/rotation"
)

// Source is where the configuration of a program comes from that was started with the flags f.
func Source(file string, f *pflag.FlagSet, getenv func(string) string) settings.Source {
	return settings.From(file, prefix, f, getenv)
}

// Again reads the configuration of a program again that was started with the flags f.
func Again(file string, f *pflag.FlagSet, getenv func(string) string) func() (Config, error) {
	from := Source(file, f, getenv)
	return func() (Config, error) {
		c := Default()
		f := pflag.NewFlagSet("", pflag.ContinueOnError)
		c.Flags(f)
		return c, from.Read(&c, f)
	}
}

// Texts returns the settings by key, as texts for people and without passwords.
func (c Config) Texts() map[string]string { return c.Settings().Texts() }

// Digests returns a keyed digest of each setting that somebody has set, for a comparison.
func (c Config) Digests(key []byte) map[string]string {
	unset := Default()
	unset.Scopes = map[string]rotation.Policy{}
	for name := range c.Scopes {
		unset.Scopes[name] = rotation.DefaultPolicy()
	}
	all := c.Settings()
	for name := range c.Scopes { // a scope stands there although nothing of it is set
		all["scopes."+name] = settings.Value{}
	}
	return all.Digests(key, unset.Settings())
}

// Settings returns the settings by key.
func (c Config) Settings() settings.Flat {
	all := settings.Flatten(c)
	for name, p := range c.Scopes {
		all.Put("scopes."+name, settings.Flatten(fileOf(p)))
	}
	return all
}

// Live returns c with those settings of next that can change while lockstepd runs. These are:
//
//   - node_names, wildcard_names, expected_nodes and log_level;
//   - the policy of a scope that both have, but for client_certs. Tickets carry the verification of
//     clients along, so keys that were used with another one must not be used on;
//   - of listeners the template, hosts, match and max_eager, if both serve a listener.
//
// A scope that is new, or gone, needs a restart. A ring must be read or made before any node may
// ask for it. And whose ring is gone cannot be known before its nodes have stopped asking.
func (c Config) Live(next Config) Config {
	c.NodeNames, c.WildcardNames, c.LogLevel = next.NodeNames, next.WildcardNames, next.LogLevel
	c.ExpectedNodes = next.ExpectedNodes
	c.Scopes = maps.Clone(c.Scopes)
	for name, p := range c.Scopes {
		if n, ok := next.Scopes[name]; ok {
			n.ClientCerts = p.ClientCerts
			c.Scopes[name] = n
		}
	}
	if c.Listeners.Template != "" && next.Listeners.Template != "" {
		scope := c.Listeners.Scope
		c.Listeners = next.Listeners
		c.Listeners.Scope = scope
	}
	return c
}

// fileOf is p as it would stand in a file.
func fileOf(p rotation.Policy) policyFile {
	quorum, laggard := percent(p.Quorum), "wait"
	if p.Laggard > 0 {
		laggard = settings.Duration(p.Laggard)
	}
	certs := fingerprints(strings.ReplaceAll(p.ClientCerts, ",", ", "))
	return policyFile{&p.Period, &p.TicketLifetime, &p.MaxKeyAge, &quorum, &laggard, &p.RefuseGrace, &p.NodeLease,
		&certs}
}
