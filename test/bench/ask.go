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
	ours, stock, c := b.ours(b.bigData(), nil), b.stock(some, nil), b.crowd()
	ask := func(p *plane, count, ahead int) []time.Duration {
		r := c.do(swarm.Command{Op: "ask", Addr: p.xds, Pattern: certPattern, Count: count, Ahead: ahead, Timeout: 10 * time.Minute})
		// A name in a stream's first request may be sent in two encodings.
		if extra := r.Resources - count; extra < 0 || extra > 1 {
			check(fmt.Errorf("%s answered %d of %d names with a certificate", p.name, r.Resources, count))
		}
		return r.Tenths
	}
	var all tenths
	for range 3 {
		all.add(ask(ours, many, ahead))
	}
	b.add(all.flatness(fmt.Sprintf("%d names one by one on one stream, %d at a time", many, ahead+1), 3*many))
	for _, ahead := range []int{ahead, 0} {
		var took []float64
		for range 3 {
			took = append(took, total(ask(ours, some, ahead)).Seconds())
		}
		slow := []float64{total(ask(stock, some, ahead)).Seconds()} // once: it takes long
		faster := compare(fmt.Sprintf("— %d of them, stock's time by ours, %d at a time", some, ahead+1), took, slow, reported, inSeconds)
		faster.ratio = 1 / faster.ratio
		b.add(faster.judge(atLeast(50)))
	}
}

// askUnknown is one stream that asks for names that do not exist, against an echo stream of a
// server that does nothing.
func askUnknown(b *bench) {
	const pattern = "u%06d.nowhere.example"
	count, addr := b.size(20_000, 2000), newAddr()
	ours, c := b.ours("", nil), b.crowd()
	b.role("echo", addr, "", "")
	b.listening(addr)
	var oursRate, echoRate []float64
	var all tenths
	for range 5 {
		r := c.do(swarm.Command{Op: "ask", Addr: ours.xds, Pattern: pattern, Count: count})
		if r.Removed != count {
			check(fmt.Errorf("%d of %d unknown names were refused", r.Removed, count))
		}
		all.add(r.Tenths)
		e := c.do(swarm.Command{Op: "echo", Addr: addr, Pattern: pattern, Count: count})
		oursRate = append(oursRate, float64(count)/total(r.Tenths).Seconds())
		echoRate = append(echoRate, float64(count)/total(e.Tenths).Seconds())
	}
	b.add(
		compare("unknown names refused on one stream, against a bare echo stream", oursRate, echoRate, atLeast(0.5), perSecond),
		all.flatness(fmt.Sprintf("— %d of them, first and last tenth", count), 5*count),
	)
}

// tenths is what each tenth of all rounds together took.
type tenths [10]time.Duration

func (t *tenths) add(round []time.Duration) {
	if len(round) != len(t) {
		check(fmt.Errorf("there are %d tenths", len(round)))
	}
	for i, d := range round {
		t[i] += d
	}
}

// flatness compares the last tenth's rate with the first's.
func (t *tenths) flatness(what string, count int) row {
	rate := func(t time.Duration) []float64 { return []float64{float64(count) / 10 / t.Seconds()} }
	return compare(what, rate(t[9]), rate(t[0]), atLeast(0.8), perSecond).noted("the last tenth against the first")
}

func total(tenths []time.Duration) (sum time.Duration) {
	for _, t := range tenths {
		sum += t
	}
	return sum
}
