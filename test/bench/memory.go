package main

// memory is the resident memory that a node costs a server: idle, after pushes, and with 100
// certificates. Servers run one at a time, and in turn: how much a runtime keeps of what it has
// freed differs from run to run.
func memory(b *bench) {
	nodes, certs := b.size(5000, 500), b.size(100, 20)
	var idle, pushed, with figures
	for range b.size(3, 1) {
		for side, start := range []func(certs int) *plane{
			func(certs int) *plane { return b.ours(b.data(certs)) },
			func(certs int) *plane { return b.stock(certs, nil) },
		} {
			at, after := b.weigh(start(0), nodes, 0, 20)
			idle.add(side, at)
			pushed.add(side, after)
			held, _ := b.weigh(start(certs), nodes, certs, 0)
			with.add(side, held)
		}
	}
	b.add(
		compare(idle, atMost(0.85), inKB, "server memory per node, %d nodes: idle", nodes),
		compare(pushed, atMost(0.70), inKB, "— after 20 pushes"),
		compare(with, atMost(0.25), inKB, "— with %d certificates each", certs),
	)
}

// weigh returns the bytes per node that p's memory grows by: with the nodes connected, and after
// pushes. Then it kills p.
func (b *bench) weigh(p *plane, nodes, certs, pushes int) (idle, pushed float64) {
	c := b.crowd()
	base := b.settled(p.Process)
	peak := peakOf(p.PID(), func() { c.join(p, nodes, certs, false) })
	perNode := func() float64 { return (b.settled(p.Process) - base) / float64(nodes) }
	idle = perNode()
	for range pushes {
		c.push(p)()
	}
	pushed = perNode()
	b.say("%s, %d nodes of %d certificates: %s before, %s at the peak of connecting; a node is %s, after %d pushes %s",
		p.Name(), nodes, certs, inMB(base), inMB(peak), inKB(idle), pushes, inKB(pushed))
	check(b.fleet.Close())
	return idle, pushed
}

// heldMemory is what a certificate costs a server that one node holds, beyond the bytes of its
// chain and key. It is the memory with many of them on one stream, less that of a server before
// anything is asked of it. The pages of the store's file do not count, since the kernel takes them
// back when it needs them. Stock has the certificates in its cache whether somebody asks or not.
func heldMemory(b *bench) {
	certs := b.size(100_000, 2000)
	own := float64(len(b.pair.Chain) + len(b.pair.Key))
	var all figures
	for range b.size(3, 1) {
		ours, empty := b.ours(b.keptData(certs)), b.stock(0, nil)
		before := []float64{b.anonymous(ours.Process), b.anonymous(empty.Process)}
		check(empty.Kill())
		for side, p := range []*plane{ours, b.stock(certs, nil)} {
			c := b.crowd()
			// by grpc-go: the bare client sends a message in one frame, which that list exceeds
			c.join(p, 1, certs, true)
			with := b.anonymous(p.Process)
			each := (with-before[side])/float64(certs) - own
			all.add(side, each)
			b.say("%s: %s, so a certificate is %s beyond its own %s", p.Name(), inMB(with), inKB(each), inKB(own))
			check(c.Kill())
			check(p.Kill()) // the next one has its memory
		}
		check(b.fleet.Close())
	}
	b.add(compare(all, reported, inKB,
		"memory per certificate that a node holds, beyond its own bytes (%d of them on one stream)", certs).
		absolute("≤ 1 KB", median(all[0]) > 1024))
}
