package main

import (
	"crypto/tls"
	"fmt"
	"io"

	"github.com/lockstep-tls/lockstep/probe"
)

// crossed is what verify --cross prints.
type crossed struct {
	probe.Matrix
	Apart     bool     `json:"apart"`
	Crossings []string `json:"crossings"`
}

// showCross shows which sessions of different scopes were resumed. It fails unless they prove that
// no ticket crosses from one scope to another.
func (a *app) showCross(addrs []string, m probe.Matrix) error {
	why := m.Crossings()
	out := crossed{m, len(why) == 0, why}
	err := show(a, out, func(w io.Writer, _ crossed) {
		for pairs := m.Pairs; len(pairs) > 0; pairs = pairs[len(addrs)*len(addrs):] {
			of := pairs[:len(addrs)*len(addrs)]
			home := 0
			for _, p := range of {
				if p.From == p.To && p.Outcome == probe.Resumed {
					home++
				}
			}
			fmt.Fprintf(w, "%s: %d of %d sessions resumed at their own node, %d of %d at another\n",
				tls.VersionName(of[0].Version),
				home, len(addrs), count(of, probe.Resumed)-home, len(of)-len(addrs))
			grid(w, addrs, of)
		}
		for _, line := range why {
			row(w, "  "+line)
		}
	})
	if err == nil && len(why) > 0 {
		err = fail(exitFailed, "the scopes are not proved to be apart: %s", why[0])
	}
	return err
}
