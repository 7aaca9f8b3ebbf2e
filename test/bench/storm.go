package main

import (
	"fmt"
	"time"

	"github.com/lockstep-tls/lockstep/test/bench/swarm"
)

// storm is a fleet that connects all at once over mTLS, to a server that has just started.
func storm(b *bench) {
	nodes, files := b.size(2000, 200), b.mTLS()
	var times, peaks [2][]float64
	for range b.size(5, 2) {
		for i, start := range []func() *plane{
			func() *plane { return b.ours("", files) },
			func() *plane { return b.stock(0, files) },
		} {
			p, c := start(), b.crowd()
			var r swarm.Reply
			peak := peakOf(p.PID(), func() {
				r = c.do(swarm.Command{Op: "connect", Set: p.name, Addr: p.xds, Nodes: nodes, Names: []string{ring}, TLS: files.client})
			})
			times[i], peaks[i] = append(times[i], time.Duration(r.Last-r.Start).Seconds()), append(peaks[i], float64(peak))
			check(b.end())
		}
	}
	b.add(
		compare(fmt.Sprintf("%d nodes connect at once over mTLS: until all are served", nodes), times[0], times[1], atMost(1.15), inMS),
		compare("— peak memory of the server", peaks[0], peaks[1], atMost(0.85), inMB),
	)
}

// refuge is a fleet over mTLS on two replicas, one of which is killed: its nodes go to the other,
// all at once.
func refuge(b *bench) {
	nodes, files := b.size(2000, 200), b.mTLS()
	var times, peaks, steady []float64
	for range b.size(3, 1) {
		s := b.shared()
		lost, kept, c := s.replica("fleet", files), s.replica("fleet", files), b.crowd()
		c.do(swarm.Command{
			Op: "connect", Set: "fleet", Addr: lost.xds, Refuge: kept.xds, Nodes: nodes, Names: []string{ring}, Parallel: 32, TLS: files.client,
		})
		b.settled(kept.Process)
		peak := peakOf(kept.PID(), func() {
			c.do(swarm.Command{Op: "arm", Set: "fleet", Accepts: 1})
			begin := time.Now()
			check(lost.Kill())
			r := c.do(swarm.Command{Op: "wait", Set: "fleet"})
			times = append(times, time.Unix(0, r.Last).Sub(begin).Seconds())
		})
		peaks, steady = append(peaks, float64(peak)), append(steady, float64(b.settled(kept.Process)))
		check(b.end())
	}
	b.add(
		row{what: fmt.Sprintf("%d nodes over mTLS whose replica is killed: until all are on the other", nodes), ours: inSeconds(median(times))}.
			absolute("≤ 10 s", median(times) > 10),
		compare("— peak memory of the other, against what it holds then", peaks, steady, atMost(2), inMB),
	)
}
