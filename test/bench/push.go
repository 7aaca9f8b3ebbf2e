package main

import "time"

// pushes measures, with connections of their own for all nodes: one push of the ring, the server's
// CPU for it, and a whole rotation against one push of stock. The limits are for nodes that are
// clients of grpc-go. Bare clients cost so little that another thing weighs more: stock puts off
// reading the ACKs until after the last one. A push of ours is a burn: one record swapped on disk,
// one push, the roster written, the event sent.
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
		pushed := b.alternate(c.push(ours), c.push(stock))
		rotated := b.alternate(c.rotate(ours), c.push(stock))
		check(b.fleet.Close())
		b.add(
			compare(pushed[lastACK], f.push, inMS,
				"one push of the ring, %d nodes%s: until the last ACK", f.nodes, f.kind),
			compare(pushed[halfACKs], reported, inMS, "— until half the ACKs"),
			compare(pushed[cpuPerNode], f.cpu, inUS, "— server CPU per push and node"),
			compare(rotated[lastACK], f.rotation, inMS,
				"a whole rotation against one stock push, %d nodes%s", f.nodes, f.kind),
		)
	}
}

// pushesWithNames is one push of the ring to nodes that hold 100 certificates each on the same
// stream.
func pushesWithNames(b *bench) {
	nodes, certs := b.size(1000, 100), b.size(100, 20)
	c, ours, stock := b.duel(nodes, certs, true)
	all := b.alternate(c.push(ours), c.push(stock))
	b.add(
		compare(all[cpuPerNode], atMost(0.25), inUS,
			"server CPU per push and node, %d certificates on each of %d nodes", certs, nodes),
		compare(all[lastACK], reported, inMS, "— one push of the ring there: until the last ACK"),
	)
}

// duel is ours and stock, each with so many nodes that hold the same names, connected and idle.
func (b *bench) duel(nodes, certs int, grpc bool) (c crowd, ours, stock *plane) {
	ours, stock, c = b.ours(b.data(certs)), b.stock(certs, nil), b.crowd()
	c.join(ours, nodes, certs, grpc)
	c.join(stock, nodes, certs, grpc)
	b.sleep(2 * time.Second)
	return c, ours, stock
}
