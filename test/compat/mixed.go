package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"slices"

	"github.com/lockstep-tls/lockstep/probe"
)

// tryMixed runs one fleet with an Envoy of each version, and fills the column of each row and the
// matrix.
func tryMixed(ctx context.Context, dir, bin string, r *report) error {
	s, err := setUp(ctx, dir, bin)
	if err != nil {
		return err
	}
	defer s.close()
	nodes := make([]*node, len(r.Rows)) // nil: it does not serve
	for i, row := range r.Rows {
		if nodes[i], err = s.envoy(ctx, row.binary, "envoy-"+row.Version, s.plane.XDS,
			"--host", eagerHost, "--host", laterHost); err != nil {
			return err
		}
	}
	for i, n := range nodes {
		words, err := n.serves(ctx)
		if err != nil {
			return err
		}
		if words != "" {
			r.Rows[i].Cells[mixed] = no("%s", words)
			nodes[i] = nil
			if err := n.Kill(); err != nil {
				return err
			}
		}
	}
	t, err := s.turn(ctx, slices.DeleteFunc(slices.Clone(nodes), func(n *node) bool { return n == nil }))
	if err != nil {
		for i := range r.Rows {
			if nodes[i] != nil {
				r.Rows[i].Cells[mixed] = no("%v", err)
			}
		}
		return ctx.Err()
	}
	r.Refused, r.Offered = t.refused, t.offered
	both := slices.Concat(t.before.Pairs, t.after.Pairs)
	for i, n := range nodes {
		r.Matrix = append(r.Matrix, matrixLine(both, n, nodes))
		if n == nil {
			continue
		}
		resumed, all := count(both, func(p probe.Pair) bool { return p.From == n.addr || p.To == n.addr })
		c := cell{OK: resumed == all && all > 0 && t.refused == 0 && t.failed == 0}
		c.Says = fmt.Sprintf("%s: %d of %d sessions resume", yes(c.OK), resumed, all)
		if !c.OK {
			c.Why = t.why()
		}
		r.Rows[i].Cells[mixed] = c
	}
	for _, phase := range []struct {
		name   string
		matrix probe.Matrix
	}{{"before the rotation", t.before}, {"after it", t.after}} {
		for _, v := range tlsVersions {
			resumed, all := count(phase.matrix.Pairs, func(p probe.Pair) bool { return p.Version == v })
			r.Totals = append(r.Totals, fmt.Sprintf("%s, %s: %d of %d", tls.VersionName(v), phase.name, resumed, all))
		}
	}
	return nil
}

// matrixLine says how many of the sessions that an Envoy made resumed at each.
func matrixLine(pairs []probe.Pair, from *node, nodes []*node) []string {
	var line []string
	for _, to := range nodes {
		if from == nil || to == nil {
			line = append(line, "–")
			continue
		}
		resumed, all := count(pairs, func(p probe.Pair) bool { return p.From == from.addr && p.To == to.addr })
		line = append(line, fmt.Sprintf("%d of %d", resumed, all))
	}
	return line
}
