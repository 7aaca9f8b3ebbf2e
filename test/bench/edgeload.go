package main

import (
	"context"
	"fmt"

	"github.com/lockstep-tls/lockstep/test/bench/visit"
)

// pairs of rounds, of which each begins with the other side in turn.
const pairs = 9

// edgeLoad is what it costs that certificates are loaded on demand: two lockstep-edges, of which one was given all of them at its start. Each handshake is full, and the
// on-demand ones have been seen once before.
func edgeLoad(ctx context.Context, b *bench) (rows []row, err error) {
	data, err := b.data(ctx, 1000)
	if err != nil {
		return nil, err
	}
	s, err := b.stand(ctx, data)
	if err != nil {
		return nil, err
	}
	defer s.clients.close()
	var sides [2]*peer
	for i, more := range []string{"", preload(1000)} {
		if sides[i], err = s.edge(ctx, more); err != nil {
			return nil, err
		}
		if _, err := s.each(ctx, sides[i], visit.Command{Op: "shake", Pattern: certPattern, Names: 1000, Count: 2000, Parallel: 16}); err != nil {
			return nil, err
		}
	}
	for _, conns := range []int{10, 100, 500, 1000} {
		for _, hosts := range []int{1, 1000} {
			c := visit.Command{Op: "shake", Pattern: certPattern, Names: hosts, Count: b.size(4000, 200), Parallel: conns}
			var cpu [2][]float64
			for pair := range pairs {
				for turn := range sides {
					i := (pair + turn) % 2
					each, err := s.each(ctx, sides[i], c)
					if err != nil {
						return rows, err
					}
					cpu[i] = append(cpu[i], each)
				}
			}
			rows = append(rows, paired(fmt.Sprintf("lockstep-edge, CPU per full handshake, %d connections at a time, %d hosts: loaded on demand, against preloaded", conns, hosts), cpu[0], cpu[1], atMost(1.02), inUS))
		}
	}
	return rows, nil
}

// paired is compare with the median of the rounds' ratios: for differences that are smaller than what a machine's pace changes by in a minute.
func paired(what string, ours, theirs []float64, l limit, format func(float64) string) row {
	r := compare(what, ours, theirs, reported, format)
	var all []float64
	for i := range ours {
		all = append(all, ours[i]/theirs[i])
	}
	r.ratio = median(all)
	return r.judge(l)
}
