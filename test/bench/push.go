package main

import (
	"fmt"
	"time"
)

// pushes measures, with connections of their own for all nodes: one push of the ring, the server's
// CPU for it, and a whole rotation against one push of stock. The nodes that the limits are for are
// clients of grpc-go; a bare client costs so little beside them that what stock puts off until
// after the last ACK, reading the ACKs, weighs more. A push of ours is a burn: one record swapped
// on disk, one push, the roster written, the event told.
func pushes(b *bench) {
	for _, f := range []struct {
		nodes               int
		push, cpu, rotation limit
		grpc                bool
		kind                string
	}{
		{b.size(5000, 500), atMost(0.75), atMost(0.60), atMost(1.35), true, ""},
		{b.size(1000, 200), atMost(0.90), atMost(0.60), atMost(1.6), true, ""},
		{b.size(5000, 500), reported, reported, reported, false, " that are bare clients"},
	} {
		c, ours, stock := b.duel(f.nodes, 0, f.grpc)
		pushed := b.alternate(func() sample { return c.push(ours) }, func() sample { return c.push(stock) })
		rotated := b.alternate(func() sample { return c.rotate(ours) }, func() sample { return c.push(stock) })
		check(b.end())
		b.add(
			compare(fmt.Sprintf("one push of the ring, %d nodes%s: until the last ACK", f.nodes, f.kind), last(pushed[0]), last(pushed[1]), f.push, inMS),
			compare("— until half the ACKs", halfway(pushed[0]), halfway(pushed[1]), reported, inMS),
			compare("— server CPU per push and node", perNode(pushed[0], f.nodes), perNode(pushed[1], f.nodes), f.cpu, inUS),
			compare(fmt.Sprintf("a whole rotation against one stock push, %d nodes%s", f.nodes, f.kind), last(rotated[0]), last(rotated[1]), f.rotation, inMS),
		)
	}
}

// pushesWithNames is one push of the ring to nodes that hold 100 certificates each on the same
// stream.
func pushesWithNames(b *bench) {
	nodes, certs := b.size(1000, 100), b.size(100, 20)
	c, ours, stock := b.duel(nodes, certs, true)
	all := b.alternate(func() sample { return c.push(ours) }, func() sample { return c.push(stock) })
	b.add(
		compare(fmt.Sprintf("server CPU per push and node, %d certificates on each of %d nodes", certs, nodes),
			perNode(all[0], nodes), perNode(all[1], nodes), atMost(0.25), inUS),
		compare("— one push of the ring there: until the last ACK", last(all[0]), last(all[1]), reported, inMS),
	)
}

func last(all []sample) []float64 {
	return seconds(all, func(s sample) time.Duration { return s.last })
}

func halfway(all []sample) []float64 {
	return seconds(all, func(s sample) time.Duration { return s.median })
}

func perNode(all []sample, nodes int) []float64 {
	return seconds(all, func(s sample) time.Duration { return s.cpu / time.Duration(nodes) })
}

func seconds(all []sample, f func(sample) time.Duration) (out []float64) {
	for _, s := range all {
		out = append(out, f(s).Seconds())
	}
	return out
}
