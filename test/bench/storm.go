package main

import (
	"time"

	"github.com/lockstep-tls/lockstep/test/bench/swarm"
)

// storm is a fleet that connects all at once over mTLS, to a server that has just started.
func storm(b *bench) {
	nodes := b.size(2000, 200)
	server, client := b.mTLS()
	var times, peaks figures
	for range b.size(5, 2) {
		for side, start := range []func() *plane{
			func() *plane { return b.ours("", withTLS(server)...) },
			func() *plane { return b.stock(0, server) },
		} {
			p, c := start(), b.crowd()
			peaks.add(side, peakOf(p.PID(), func() {
				r := c.connect(p, nodes, swarm.Command{TLS: client})
				times.add(side, time.Duration(r.Last-r.Start).Seconds())
			}))
			check(b.fleet.Close())
		}
	}
	b.add(
		compare(times, atMost(1.15), inMS, "%d nodes connect at once over mTLS: until all are served", nodes),
		compare(peaks, atMost(0.85), inMB, "— peak memory of the server"),
	)
}

// refuge is a fleet over mTLS on two replicas, one of which is killed. Its nodes go to the other,
// all at once.
func refuge(b *bench) {
	nodes := b.size(2000, 200)
	server, client := b.mTLS()
	var times []float64
	var memory figures // the other's: at its peak, and once it has come to rest
	for range b.size(3, 1) {
		s := b.shared()
		lost, other, c := s.replica("fleet", withTLS(server)...), s.replica("fleet", withTLS(server)...), b.crowd()
		c.connect(lost, nodes, swarm.Command{Refuge: other.XDS, Parallel: 32, TLS: client})
		b.settled(other.Process)
		memory.add(0, peakOf(other.PID(), func() {
			_, took := c.accepted(1, func() { check(lost.Kill()) }, lost)
			times = append(times, took)
		}))
		memory.add(1, b.settled(other.Process))
		check(b.fleet.Close())
	}
	b.add(
		single(inSeconds(median(times)),
			"%d nodes over mTLS whose replica is killed: until all are on the other", nodes).
			absolute("≤ 10 s", median(times) > 10),
		compare(memory, atMost(2), inMB, "— peak memory of the other, against what it holds then"),
	)
}
