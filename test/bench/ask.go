package main

import (
	"fmt"
	"time"

	"github.com/lockstep-tls/lockstep/test/bench/swarm"
)

// ahead is how many handshakes wait for their certificate when the next client comes.
const ahead = 15

// askOneByOne is one stream that asks for certificates one after the other.
func askOneByOne(b *bench) {
	many, some := b.size(100_000, 2000), b.size(10_000, 1000)
	ours, stock, c := b.ours(b.keptData(many)), b.stock(some, nil), b.crowd()
	ask := func(p *plane, count, ahead int) swarm.Tenths {
		cmd := swarm.Command{Op: "ask", Addr: p.XDS, Pattern: certPattern, Count: count, Ahead: ahead}
		cmd.Timeout = 10 * time.Minute
		r := c.do(cmd)
		// A name in a stream's first request may be sent in two encodings.
		if extra := r.Resources - count; extra < 0 || extra > 1 {
			check(fmt.Errorf("%s answered %d of %d names with a certificate", p.Name(), r.Resources, count))
		}
		return r.Tenths
	}
	var all swarm.Tenths
	for range 3 {
		all.Add(ask(ours, many, ahead))
	}
	b.add(flatness(all, 3*many, "%d names one by one on one stream, %d at a time", many, ahead+1))
	for _, ahead := range []int{ahead, 0} {
		var took figures
		for range 3 {
			took.add(0, ask(ours, some, ahead).Total())
		}
		took.add(1, ask(stock, some, ahead).Total()) // once: it takes long
		faster := compare(took, reported, inSeconds, "— %d of them, stock's time by ours, %d at a time", some, ahead+1)
		faster.ratio = 1 / faster.ratio
		b.add(faster.judge(atLeast(50)))
	}
}

// askUnknown is one stream that asks for names that do not exist, against an echo stream of a
// server that does nothing.
func askUnknown(b *bench) {
	count, addr := b.size(20_000, 2000), newAddr()
	ours, c := b.ours(""), b.crowd()
	b.role("echo", addr, "")
	b.listening(addr)
	cmd := swarm.Command{Pattern: "u%06d.nowhere.example", Count: count}
	exchange := func(op, addr string) swarm.Reply {
		cmd.Op, cmd.Addr = op, addr
		return c.do(cmd)
	}
	var rates figures
	var all swarm.Tenths
	for range 5 {
		r := exchange("ask", ours.XDS)
		if r.Removed != count {
			check(fmt.Errorf("%d of %d unknown names were refused", r.Removed, count))
		}
		all.Add(r.Tenths)
		rates.add(0, float64(count)/r.Tenths.Total())
		rates.add(1, float64(count)/exchange("echo", addr).Tenths.Total())
	}
	b.add(
		compare(rates, atLeast(0.5), perSecond, "unknown names refused on one stream, against a bare echo stream"),
		flatness(all, 5*count, "— %d of them, first and last tenth", count),
	)
}

// flatness compares the last tenth's rate with the first's, where all are of so many names.
func flatness(t swarm.Tenths, count int, what string, a ...any) row {
	rate := func(d time.Duration) []float64 { return []float64{float64(count) / 10 / d.Seconds()} }
	return compare(figures{rate(t[9]), rate(t[0])}, atLeast(0.8), perSecond, what, a...).
		noted("the last tenth against the first")
}
