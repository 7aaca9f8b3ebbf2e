package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/lockstep-tls/lockstep/identity"
	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/test/bench/swarm"
)

// replicas measures a rotation over two replicas with half of the nodes each against one replica
// with all, what a rotation writes to the store, and a decision of a large policy.
func replicas(b *bench) {
	nodes, few := b.size(5000, 500), b.size(500, 50)
	s, c := b.shared(), b.crowd()
	one := []*plane{s.replica("one", nil)}
	two := []*plane{s.replica("two", nil), s.replica("two", nil)}
	for _, planes := range [][]*plane{one, two} {
		for _, p := range planes {
			c.join(p, nodes/len(planes), 0, false)
		}
	}
	b.sleep(2 * time.Second)
	var times [2][]float64
	var writes, fewWrites []float64
	for i := range warmUp + b.size(rounds, 4) {
		for j, planes := range [][]*plane{two, one} {
			took, wrote := s.rotate(c, planes)
			if i < warmUp {
				continue
			}
			times[j] = append(times[j], took.Seconds())
			if j == 1 {
				writes = append(writes, wrote)
			}
		}
	}
	small := []*plane{s.replica("few", nil)}
	others := b.crowd()
	others.join(small[0], few, 0, false)
	for range b.size(rounds, 4) {
		_, wrote := s.rotate(others, small)
		fewWrites = append(fewWrites, wrote)
	}
	count := func(n float64) string { return fmt.Sprintf("%.0f", n) }
	b.add(
		compare(fmt.Sprintf("a whole rotation over two replicas with %d nodes each, against one with %d", nodes/2, nodes), times[0], times[1], atMost(1.2), inMS),
		compare(fmt.Sprintf("store writes in the second after a rotation begins, %d nodes on a replica, against %d", nodes, few), writes, fewWrites, reported, count).
			absolute("≤ 20", median(writes) > 20),
		decisions(b.size(10_000, 1000)),
	)
}

// rotate is a whole rotation of the fleet on these replicas of one store, until the last ACK of the
// second push, and what was written to the store until it was over.
func (s *shared) rotate(c *crowd, planes []*plane) (took time.Duration, wrote float64) {
	before := s.writes()
	for _, p := range planes {
		c.do(swarm.Command{Op: "arm", Set: p.name, Accepts: 2})
	}
	at := time.Now()
	planes[0].start("rotate")
	var last int64
	for _, p := range planes {
		last = max(last, c.do(swarm.Command{Op: "wait", Set: p.name}).Last)
	}
	s.b.sleep(time.Second)
	planes[0].rest()
	return time.Unix(0, last).Sub(at), float64(s.writes() - before)
}

// decisions times those of a policy of so many rules: for identities that it has seen, and at first
// sight.
func decisions(rules int) row {
	var y strings.Builder
	y.WriteString("rules:\n")
	for i := range rules {
		fmt.Fprintf(&y, "- {identity: \"spiffe://fleet.example/team-%d/*\", scopes: [default], names: [\"*.team-%d.example\"]}\n", i, i)
	}
	p := must(identity.Parse([]byte(y.String())))
	const times = 100_000
	took := func(id func(i int) string) float64 {
		ids := make([]string, times)
		for i := range ids {
			ids[i] = id(i)
		}
		begin := time.Now()
		for i, id := range ids {
			p.AllowsName(id, keysource.Name("shop.team-"+strconv.Itoa(i%rules)+".example"))
		}
		return time.Since(begin).Seconds() / times
	}
	fresh := took(func(i int) string { return fmt.Sprintf("spiffe://fleet.example/team-%d/edge-%d", i%rules, i) })
	known := took(func(i int) string { return fmt.Sprintf("spiffe://fleet.example/team-%d/edge-%d", i%100, i%100) })
	r := row{what: fmt.Sprintf("a decision of a policy of %d rules: at first sight of an identity; again", rules), ours: inUS(fresh), stock: inUS(known)}
	return r.absolute("≤ 5 µs", fresh > 5e-6)
}
