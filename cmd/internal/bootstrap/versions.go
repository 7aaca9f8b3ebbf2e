package bootstrap

import (
	"cmp"
	"fmt"
	"regexp"
	"strconv"
)

// NewestEnvoy is the newest Envoy that was tried, and the one that `make envoy` installs.
const NewestEnvoy = "1.40.0"

// needs holds the modes that an Envoy may be too old for. A mode that is not listed works on every
// Envoy that was tried, from 1.36.4 on.
// Source: the table in docs/compat.md, which `make compat` writes from real Envoys.
var needs = map[Mode]need{
	OnDemand: {release{1, 37}, "it has no certificate selector that fetches certificates on demand", release{1, 38}},
	Hybrid: {
		release{1, 37}, "it has no certificate selector for the on-demand chain of the listener, " +
			"and refuses the whole listener", release{1, 38},
	},
}

// need is what a mode needs of Envoy.
type need struct {
	first   release // first is the oldest Envoy on which the mode was seen to work.
	lacking string  // lacking says what an older one does not have.
	// quiet is the oldest Envoy whose on-demand chain gives no session tickets. Before it, Envoy
	// overlooked there that resumption is turned off.
	// Source: https://github.com/envoyproxy/envoy/pull/43084
	quiet release
}

// release is a minor release of Envoy. Patch releases bring no new extensions.
type release struct{ major, minor int }

func (r release) String() string { return fmt.Sprintf("%d.%d", r.major, r.minor) }

func (r release) before(o release) bool {
	return cmp.Or(cmp.Compare(r.major, o.major), cmp.Compare(r.minor, o.minor)) < 0
}

var releaseForm = regexp.MustCompile(`^([0-9]{1,4})\.([0-9]{1,4})(\.[0-9]{1,4})?$`)

// parseEnvoy refuses a mode that this version of Envoy cannot do. A version that is newer than all
// that were tried is taken.
func parseEnvoy(version string, mode Mode) error {
	if version == "" {
		return nil
	}
	r, ok := parseRelease(version)
	if !ok {
		return bad("envoy version: %q is not of the form 1.40 or 1.40.0; `envoy --version` shows it", version)
	}
	if n, ok := needs[mode]; ok && r.before(n.first) {
		return bad("envoy version: Envoy %s cannot do mode %s: %s; use --mode %s, or an Envoy from %s on", version,
			mode, n.lacking, Eager, n.first)
	}
	return nil
}

// Caution returns what an operator is to know of Options.Mode on Options.Envoy, which can do it.
// It is empty if there is nothing.
func Caution(o Options) string {
	r, ok := parseRelease(o.Envoy)
	if n, listed := needs[o.Mode]; ok && listed && r.before(n.quiet) {
		return fmt.Sprintf(
			"Envoy %s gives session tickets in an on-demand chain, with a key of its own, though they are turned "+
				"off: lockstep burn does not end such sessions; "+
				"use an Envoy from %s on, or restart the node after a burn", o.Envoy, n.quiet)
	}
	return ""
}

func parseRelease(version string) (r release, ok bool) {
	m := releaseForm.FindStringSubmatch(version)
	if m == nil {
		return r, false
	}
	r.major, _ = strconv.Atoi(m[1]) // digits, few enough
	r.minor, _ = strconv.Atoi(m[2])
	return r, true
}
