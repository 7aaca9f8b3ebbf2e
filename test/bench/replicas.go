package main

import (
	"fmt"
	"strconv"
	"time"

	"github.com/lockstep-tls/lockstep/identity"
	"github.com/lockstep-tls/lockstep/keysource"
)

// replicas measures a rotation over two replicas with half of the nodes each against one replica
// with all, what a rotation writes to the store, and a decision of a large policy.
func replicas(b *bench) {
	nodes, few := b.size(5000, 500), b.size(500, 50)
	s, c := b.shared(), b.crowd()
	one := []*plane{s.replica("one")}
	two := []*plane{s.replica("two"), s.replica("two")}
	for _, planes := range [][]*plane{one, two} {
		for _, p := range planes {
			c.join(p, nodes/len(planes), 0, false)
		}
	}
	b.sleep(2 * time.Second)
	all := b.alternate(s.rotate(c, two), s.rotate(c, one))
	wrote := figures{all[storeWrites][1]}
	small := s.replica("few")
	c.join(small, few, 0, false)
	for range len(wrote[0]) {
		wrote.add(1, s.rotate(c, []*plane{small})()[storeWrites])
	}
	b.add(
		compare(all[lastACK], atMost(1.2), inMS,
			"a whole rotation over two replicas with %d nodes each, against one with %d", nodes/2, nodes),
		compare(wrote, reported, plain,
			"store writes in the second after a rotation begins, %d nodes on a replica, against %d", nodes, few).
			absolute("≤ 20", median(wrote[0]) > 20),
		decisions(b.size(10_000, 1000)),
	)
}

// rotate returns a turn of a whole rotation of the fleet on these replicas of one store, until the
// last ACK of the second push. It counts what was written to the store until it was over.
func (s *shared) rotate(c crowd, planes []*plane) func() sample {
	return func() (r sample) {
		planes[0].makeRoom()
		before := s.writes()
		_, r[lastACK] = c.accepted(2, func() { planes[0].start("rotate") }, planes...)
		s.b.sleep(time.Second)
		planes[0].rest()
		r[storeWrites] = s.writes() - before
		return r
	}
}

// decisions times those of a policy of so many rules: at first sight of an identity, and again.
func decisions(rules int) row {
	policy := []byte("rules:\n")
	for i := range rules {
		policy = fmt.Appendf(policy, "- {identity: \"spiffe://fleet.example/team-%d/*\", scopes: [default], "+
			"names: [\"*.team-%[1]d.example\"]}\n", i)
	}
	p := must(identity.Parse(policy))
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
	known := took(func(i int) string { return fmt.Sprintf("spiffe://fleet.example/team-%d/edge-%[1]d", i%100) })
	r := single(inUS(fresh), "a decision of a policy of %d rules: at first sight of an identity; again", rules).
		absolute("≤ 5 µs", fresh > 5e-6)
	r.stock = inUS(known)
	return r
}
