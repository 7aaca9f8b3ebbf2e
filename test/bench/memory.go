package main

import "fmt"

// memory is the resident memory that a node costs a server: idle, after pushes, and with 100
// certificates. Servers run one at a time, and in turn: how much a runtime keeps of what it has
// freed differs from run to run.
func memory(b *bench) {
	nodes, certs := b.size(5000, 500), b.size(100, 20)
	starts := []func(certs int) *plane{
		func(certs int) *plane { return b.ours(b.data(certs), nil) },
		func(certs int) *plane { return b.stock(certs, nil) },
	}
	var idle, pushed, with [2][]float64
	for range b.size(3, 1) {
		for i, start := range starts {
			at, after := b.weigh(start(0), nodes, 0, 20)
			held, _ := b.weigh(start(certs), nodes, certs, 0)
			idle[i], pushed[i], with[i] = append(idle[i], at), append(pushed[i], after), append(with[i], held)
		}
	}
	b.add(
		compare(fmt.Sprintf("server memory per node, %d nodes: idle", nodes), idle[0], idle[1], atMost(0.85), inKB),
		compare("— after 20 pushes", pushed[0], pushed[1], atMost(0.70), inKB),
		compare(fmt.Sprintf("— with %d certificates each", certs), with[0], with[1], atMost(0.25), inKB),
	)
}

// weigh returns the bytes per node that p's memory grows by: with the nodes connected, and after
// pushes; then it kills p.
func (b *bench) weigh(p *plane, nodes, certs, pushes int) (idle, pushed float64) {
	c := b.crowd()
	base := b.settled(p.Process)
	peak := peakOf(p.PID(), func() { c.join(p, nodes, certs, false) })
	perNode := func() float64 { return float64(b.settled(p.Process)-base) / float64(nodes) }
	idle = perNode()
	for range pushes {
		c.push(p)
	}
	pushed = perNode()
	b.say("%s with %d nodes of %d certificates: %s before them, %s at the peak while they connect; a node is %s, after %d pushes %s",
		p.name, nodes, certs, inMB(float64(base)), inMB(float64(peak)), inKB(idle), pushes, inKB(pushed))
	check(b.end())
	return idle, pushed
}

// heldMemory is what a certificate costs a server that one node holds, beyond the bytes of its
// chain and key: the memory with many of them on one stream, less that of a server before anything
// is asked of it; without the pages of the store's file, which the kernel takes back when it needs
// them. Stock has them in its cache whether somebody asks or not.
func heldMemory(b *bench) {
	certs := b.size(100_000, 2000)
	own := float64(len(b.pair.Chain) + len(b.pair.Key))
	var figures [2][]float64
	for range b.size(3, 1) {
		ours := b.ours(b.bigData(), nil)
		before := []int64{ours.anonymous(), 0}
		empty := b.stock(0, nil)
		before[1] = empty.anonymous()
		empty.Kill()
		for i, p := range []*plane{ours, b.stock(certs, nil)} {
			c := b.crowd()
			// by grpc-go: the bare client sends a message in one frame, which that list exceeds
			c.join(p, 1, certs, true)
			with := p.anonymous()
			each := float64(with-before[i])/float64(certs) - own
			figures[i] = append(figures[i], each)
			b.say("%s with %d certificates on one stream: %s, so one is %s beyond its own %s", p.name, certs, inMB(float64(with)), inKB(each), inKB(own))
			c.Close()
			p.Kill() // the next one has its memory
		}
		check(b.end())
	}
	b.add(compare(fmt.Sprintf("memory per certificate that a node holds, beyond its own bytes (%d of them on one stream)", certs),
		figures[0], figures[1], reported, inKB).absolute("≤ 1 KB", median(figures[0]) > 1024))
}
