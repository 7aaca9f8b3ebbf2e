package probe

import (
	"context"
	"crypto/tls"
	"fmt"
	"slices"
)

// Cross does what [Verify] does, over nodes of different scopes. Each address stands for one
// scope, and every pair is tried. What is wrong is returned by [Matrix.Crossings].
func Cross(ctx context.Context, c Config) (Matrix, error) {
	sorted := slices.Sorted(slices.Values(c.Addrs))
	switch {
	case len(c.Addrs) < 2:
		return Matrix{}, fmt.Errorf("%w: a crossing takes the addresses of two nodes, of different scopes",
			ErrBadConfig)
	case len(slices.Compact(sorted)) < len(c.Addrs):
		return Matrix{}, fmt.Errorf("%w: an address stands there twice", ErrBadConfig)
	}
	c.MaxPairs = len(c.Addrs) * len(c.Addrs)
	return Verify(ctx, c)
}

// Crossings says why the nodes are not proved to be of different scopes. It returns nothing if
// they are. That no session resumes at another node is not enough, since other hosts or another
// certificate cause that as well. Each session must resume at its own node, and no two nodes may
// name the same ticket key.
func (m Matrix) Crossings() (why []string) {
	type maker struct {
		version uint16
		key     string
	}
	made := map[maker]string{}
	for _, p := range m.Pairs {
		version := tls.VersionName(p.Version)
		switch {
		case p.Outcome == Failed:
			why = append(why, fmt.Sprintf("%s, %s to %s: %s", version, p.From, p.To, p.Words))
		case p.From != p.To && p.Outcome == Resumed:
			why = append(why, fmt.Sprintf("%s: a session of %s resumed at %s", version, p.From, p.To))
		case p.From == p.To && p.Outcome != Resumed:
			why = append(why, fmt.Sprintf("%s: a session of %s did not resume at the same node: that it did not "+
				"resume elsewhere proves nothing", version, p.From))
		}
		if p.From != p.To || p.Key == "" {
			continue
		}
		if other := made[maker{p.Version, p.Key}]; other != "" {
			why = append(why, fmt.Sprintf("%s: %s and %s make tickets with the same key %s", version, other, p.From,
				p.Key))
		}
		made[maker{p.Version, p.Key}] = p.From
	}
	if len(m.Pairs) == 0 {
		why = append(why, "nothing was tried")
	}
	return why
}
