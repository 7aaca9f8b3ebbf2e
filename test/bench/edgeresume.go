package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/lockstep-tls/lockstep/test/traffic"
)

// edgeResume is clients that carry their sessions between two lockstep-edges while the ring is rotated three times.
func edgeResume(ctx context.Context, b *bench) ([]row, error) {
	data, err := b.data(ctx, 1)
	if err != nil {
		return nil, err
	}
	s, err := b.stand(ctx, data)
	if err != nil {
		return nil, err
	}
	defer s.clients.close()
	nodes := map[string]string{}
	for range 2 {
		e, err := s.edge(ctx, "")
		if err != nil {
			return nil, err
		}
		nodes[e.name] = e.addr
	}
	t := traffic.New(traffic.Config{Nodes: nodes, Hosts: []string{oneHost}, Roots: b.ca.Pool(), Lifetime: 2 * time.Hour, Workers: 3, Hops: 200, Pause: 2 * time.Millisecond})
	driving, stop := context.WithCancel(ctx)
	defer stop()
	var wg sync.WaitGroup
	wg.Go(func() { t.Run(driving) })
	for range 3 {
		if err := errors.Join(sleep(ctx, 2*time.Second), s.plane.begin(ctx, "rotate"), s.plane.rest(ctx)); err != nil {
			return nil, err
		}
	}
	err = sleep(ctx, 2*time.Second)
	counts, words := t.Counts()
	stop()
	wg.Wait()
	var rows []row
	for _, v := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		n := counts[v]
		if n.Offered == 0 {
			return rows, fmt.Errorf("%s: no ticket was offered", traffic.Kinds[v])
		}
		r := row{what: "two lockstep-edges through three rotations, " + traffic.Kinds[v] + ": live tickets that resume", must: "100 %",
			ours: fmt.Sprintf("%.4g %%", 100*float64(n.Offered-n.Refused)/float64(n.Offered)), short: n.Refused > 0 || n.Failed > 0}
		r.note = fmt.Sprintf("%d were offered, %d refused; %d handshakes failed", n.Offered, n.Refused, n.Failed)
		if r.short {
			b.say("%q", words)
		}
		rows = append(rows, r)
	}
	return rows, err
}
