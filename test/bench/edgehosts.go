package main

import (
	"context"
	"fmt"

	"github.com/lockstep-tls/lockstep/test/bench/visit"
)

// edgeHosts is the memory of a lockstep-edge that holds as many certificates as it may, and the same once ten times as many hosts were seen. Each host
// has a certificate of its own.
func edgeHosts(ctx context.Context, b *bench) ([]row, error) {
	many := b.size(100_000, 2000)
	bound := many / 10
	signer, err := b.signer()
	if err != nil {
		return nil, err
	}
	data, err := b.dataOf(ctx, many, func(i int) ([]byte, []byte, error) {
		chain, err := signer.sign(i)
		return chain, signer.keyPEM, err
	})
	if err != nil {
		return nil, err
	}
	s, err := b.stand(ctx, data)
	if err != nil {
		return nil, err
	}
	defer s.clients.close()
	e, err := s.edge(ctx, fmt.Sprintf("limits: {names: %d}\n", bound))
	if err != nil {
		return nil, err
	}
	var rss [2]float64
	for i, c := range []visit.Command{{Names: bound, Count: bound}, {From: bound, Names: many - bound, Count: many - bound}} {
		c.Op, c.Addr, c.Pattern, c.Parallel = "shake", e.addr, certPattern, 16
		if _, err := s.clients.do(c); err != nil {
			return nil, fmt.Errorf("%w; the edge's log ends:\n%s", err, e.LogTail(5))
		}
		p := &plane{proc: e.Process}
		at, err := p.settled(ctx)
		if err != nil {
			return nil, err
		}
		rss[i] = float64(at)
	}
	return []row{compare(fmt.Sprintf("lockstep-edge, memory with room for %d certificates: %d hosts seen, against %d", bound, many, bound), rss[1:], rss[:1], atMost(1.3), inMB)}, nil
}
