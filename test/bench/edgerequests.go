package main

import (
	"context"
	"fmt"
	"time"

	"github.com/lockstep-tls/lockstep/test/bench/visit"
)

// edgeRequests is small requests on connections that are kept alive on both sides. Each server has as much to do as its core can.
func edgeRequests(ctx context.Context, b *bench) (rows []row, err error) {
	f, err := b.field(ctx)
	if err != nil {
		return nil, err
	}
	defer f.clients.close()
	const conns = 64
	for _, p := range f.all {
		if _, err := f.clients.do(visit.Command{Op: "hold", Addr: p.addr, Pattern: oneHost, Count: conns, Parallel: 8}); err != nil {
			return nil, fmt.Errorf("%s: %w", p.name, err)
		}
	}
	c := visit.Command{Op: "request", Pattern: oneHost, Time: time.Duration(b.size(1000, 300)) * time.Millisecond}
	rate, cpu, busy := map[*peer][]float64{}, map[*peer][]float64{}, map[*peer][]float64{}
	for round := range pairs + 1 { // the first warms up
		for i := range f.all {
			p := f.all[(i+round)%len(f.all)]
			if p.name == bareName {
				continue // it proxies nothing
			}
			used, r, err := f.cost(ctx, p, c)
			if err != nil {
				return rows, err
			}
			if round > 0 {
				n := float64(r.Requests)
				rate[p], cpu[p], busy[p] = append(rate[p], n/c.Time.Seconds()), append(cpu[p], used/n), append(busy[p], 100*used/c.Time.Seconds())
			}
		}
	}
	edge := f.all[0]
	for _, p := range f.all[1:] {
		if p.name == bareName {
			continue
		}
		l := map[string]limit{"Caddy": atLeast(1.3), "nginx": atLeast(0.4)}[p.name]
		what := fmt.Sprintf("lockstep-edge, proxied requests, %d kept-alive connections, against %s", conns, versioned(p))
		wall := paired(what, rate[edge], rate[p], l, perSecond)
		wall.note = fmt.Sprintf("of its core the edge used %.0f %%, %s %.0f %%", median(busy[edge]), p.name, median(busy[p]))
		rows = append(rows, wall, paired("— CPU of each", cpu[edge], cpu[p], reported, inUS))
	}
	return append(rows, f.notMeasured("lockstep-edge, proxied requests")...), nil
}
