package main

import (
	"context"
	"fmt"
)

// memory is the resident memory that a node costs a server: idle, after pushes, and with 100 certificates. Servers run one at a time,
// and in turn: how much a runtime keeps of what it has freed differs from run to run.
func memory(ctx context.Context, b *bench) ([]row, error) {
	nodes, certs := b.size(5000, 500), b.size(100, 20)
	what := []string{
		fmt.Sprintf("server memory per node, %d nodes: idle", nodes),
		"— after 20 pushes",
		fmt.Sprintf("— with %d certificates each", certs),
	}
	limits := []limit{atMost(0.85), atMost(0.70), atMost(0.25)}
	starts := []func(certs int) (*plane, error){
		func(certs int) (*plane, error) {
			data, err := b.data(ctx, certs)
			if err != nil {
				return nil, err
			}
			return b.ours(ctx, data, nil)
		},
		func(certs int) (*plane, error) { return b.stock(ctx, certs, nil) },
	}
	figures := make([][2][]float64, len(what))
	for range b.size(3, 1) {
		for i, start := range starts {
			p, err := start(0)
			if err != nil {
				return nil, err
			}
			idle, pushed, err := b.weigh(ctx, p, nodes, 0, 20)
			if err != nil {
				return nil, err
			}
			if p, err = start(certs); err != nil {
				return nil, err
			}
			with, _, err := b.weigh(ctx, p, nodes, certs, 0)
			if err != nil {
				return nil, err
			}
			for j, figure := range []float64{idle, pushed, with} {
				figures[j][i] = append(figures[j][i], figure)
			}
		}
	}
	var rows []row
	for i, f := range figures {
		rows = append(rows, compare(what[i], f[0], f[1], limits[i], inKB))
	}
	return rows, nil
}

// weigh returns the bytes per node that p's memory grows by: with the nodes connected, and after pushes; then it kills p.
func (b *bench) weigh(ctx context.Context, p *plane, nodes, certs, pushes int) (idle, pushed float64, err error) {
	defer p.proc.Kill() // it has done its part; bench.end would see to it, too
	c, err := b.crowd()
	if err != nil {
		return 0, 0, err
	}
	defer c.close()
	base, err := p.settled(ctx)
	if err != nil {
		return 0, 0, err
	}
	if err := resetPeak(p.proc.PID()); err != nil {
		return 0, 0, err
	}
	if err := c.join(p, nodes, certs, false); err != nil {
		return 0, 0, err
	}
	peak, err := memoryOf(p.proc.PID(), "VmHWM")
	if err != nil {
		return 0, 0, err
	}
	perNode := func() (float64, error) {
		rss, err := p.settled(ctx)
		return float64(rss-base) / float64(nodes), err
	}
	if idle, err = perNode(); err != nil {
		return 0, 0, err
	}
	for range pushes {
		if _, err := round(ctx, c, p, 1, p.push); err != nil {
			return 0, 0, err
		}
	}
	pushed, err = perNode()
	b.say("%s with %d nodes of %d certificates: %s before them, %s at the peak while they connect; a node is %s, after %d pushes %s",
		p.name, nodes, certs, inMB(float64(base)), inMB(float64(peak)), inKB(idle), pushes, inKB(pushed))
	return idle, pushed, err
}
