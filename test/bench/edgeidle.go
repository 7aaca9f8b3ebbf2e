package main

import (
	"context"
	"fmt"

	"github.com/lockstep-tls/lockstep/test/bench/visit"
)

// edgeIdle is what a connection costs that has carried a request and waits for another.
func edgeIdle(ctx context.Context, b *bench) (rows []row, err error) {
	count := b.size(10_000, 1000)
	data, err := b.data(ctx, 1)
	if err != nil {
		return nil, err
	}
	s, err := b.stand(ctx, data)
	if err != nil {
		return nil, err
	}
	defer s.clients.close()
	for _, protocol := range []string{"HTTP/1.1", "HTTP/2"} {
		e, err := s.edge(ctx, "timeouts: {idle: 10m}\n")
		if err != nil {
			return nil, err
		}
		p := &plane{proc: e.Process}
		c := visit.Command{Op: "hold", Addr: e.addr, Pattern: oneHost, Count: 1, Parallel: 16, H2: protocol == "HTTP/2"}
		if _, err := s.clients.do(c); err != nil {
			return nil, err
		}
		base, err := p.settled(ctx)
		if err != nil {
			return nil, err
		}
		c.Count = count
		if _, err := s.clients.do(c); err != nil {
			return nil, fmt.Errorf("%w; the edge's log ends:\n%s", err, e.LogTail(5))
		}
		full, err := p.settled(ctx)
		if err != nil {
			return nil, err
		}
		each := float64(full-base) / float64(count)
		rows = append(rows, row{what: fmt.Sprintf("lockstep-edge, memory of an idle connection, %s, %d of them", protocol, count), ours: inKB(each), must: "≤ 60 KB", short: each > 60<<10})
		if _, err := s.clients.do(visit.Command{Op: "drop", Addr: e.addr}); err != nil {
			return nil, err
		}
		if err := e.Kill(); err != nil {
			return nil, err
		}
	}
	return rows, nil
}
