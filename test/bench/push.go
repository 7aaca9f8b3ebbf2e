package main

import (
	"context"
	"fmt"
	"time"
)

// pushes measures, with connections of their own for all nodes: one push of the ring, the server's CPU for it, and a whole rotation
// against one push of stock. The nodes that the limits are for are clients of grpc-go; a bare client costs so little beside them that what stock
// puts off until after the last ACK, reading the ACKs, weighs more. A push of ours is a burn: one record swapped on disk, one push, the roster written, the event told.
func pushes(ctx context.Context, b *bench) ([]row, error) {
	var all []row
	for _, fleet := range []struct {
		nodes               int
		push, cpu, rotation limit
		grpc                bool
		kind                string
	}{
		{b.size(5000, 500), atMost(0.75), atMost(0.60), atMost(1.35), true, ""},
		{b.size(1000, 200), atMost(0.90), atMost(0.60), atMost(1.6), true, ""},
		{b.size(5000, 500), reported, reported, reported, false, " that are bare clients"},
	} {
		ours, stock, rotations, beside, err := b.takeTurns(ctx, fleet.nodes, fleet.grpc)
		if err != nil {
			return all, err
		}
		all = append(all,
			compare(fmt.Sprintf("one push of the ring, %d nodes%s: until the last ACK", fleet.nodes, fleet.kind), last(ours), last(stock), fleet.push, inMS),
			compare("— until half the ACKs", halfway(ours), halfway(stock), reported, inMS),
			compare("— server CPU per push and node", perNode(ours, fleet.nodes), perNode(stock, fleet.nodes), fleet.cpu, inUS),
			compare(fmt.Sprintf("a whole rotation against one stock push, %d nodes%s", fleet.nodes, fleet.kind), last(rotations), last(beside), fleet.rotation, inMS),
		)
	}
	return all, nil
}

// takeTurns alternates: ours pushes, stock pushes; and once the last push of ours is over: ours rotates, stock pushes.
func (b *bench) takeTurns(ctx context.Context, nodes int, grpc bool) (ours, stock, rotations, beside []sample, err error) {
	d, err := b.duel(ctx, nodes, 0, grpc)
	if err != nil {
		return
	}
	defer b.end()
	defer d.close()
	type turn struct {
		into *[]sample
		take func() (sample, error)
	}
	for _, turns := range [][]turn{
		{{&ours, func() (sample, error) { return d.push(ctx, d.ours) }}, {&stock, func() (sample, error) { return d.push(ctx, d.stock) }}},
		{{&rotations, func() (sample, error) { return d.rotate(ctx) }}, {&beside, func() (sample, error) { return d.push(ctx, d.stock) }}},
	} {
		for i := range warmUp + b.size(rounds, 4) {
			for _, t := range turns {
				s, err := t.take()
				if err != nil {
					return nil, nil, nil, nil, err
				}
				if i >= warmUp {
					*t.into = append(*t.into, s)
				}
			}
		}
	}
	return
}

// pushesWithNames is one push of the ring to nodes that hold 100 certificates each on the same stream.
func pushesWithNames(ctx context.Context, b *bench) ([]row, error) {
	nodes, certs := b.size(1000, 100), b.size(100, 20)
	d, err := b.duel(ctx, nodes, certs, true)
	if err != nil {
		return nil, err
	}
	defer d.close()
	var ours, stock []sample
	for i := range warmUp + b.size(rounds, 4) {
		for _, turn := range []struct {
			p    *plane
			into *[]sample
		}{{d.ours, &ours}, {d.stock, &stock}} {
			s, err := d.push(ctx, turn.p)
			if err != nil {
				return nil, err
			}
			if i >= warmUp {
				*turn.into = append(*turn.into, s)
			}
		}
	}
	return []row{
		compare(fmt.Sprintf("server CPU per push and node, %d certificates on each of %d nodes", certs, nodes), perNode(ours, nodes), perNode(stock, nodes), atMost(0.25), inUS),
		compare("— one push of the ring there: until the last ACK", last(ours), last(stock), reported, inMS),
	}, nil
}

func last(all []sample) []float64 {
	return each(all, func(s sample) time.Duration { return s.last })
}

func halfway(all []sample) []float64 {
	return each(all, func(s sample) time.Duration { return s.median })
}

func perNode(all []sample, nodes int) []float64 {
	return each(all, func(s sample) time.Duration { return s.cpu / time.Duration(nodes) })
}

func each(all []sample, f func(sample) time.Duration) (out []float64) {
	for _, s := range all {
		out = append(out, f(s).Seconds())
	}
	return out
}
