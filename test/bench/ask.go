package main

import (
	"context"
	"fmt"
	"time"

	"github.com/lockstep-tls/lockstep/test/bench/swarm"
)

// ahead is how many handshakes wait for their certificate when the next client comes.
const ahead = 15

// askOneByOne is one stream that asks for certificates one after the other.
func askOneByOne(ctx context.Context, b *bench) ([]row, error) {
	many, some := b.size(100_000, 2000), b.size(10_000, 1000)
	data, err := b.bigData(ctx)
	if err != nil {
		return nil, err
	}
	ours, err := b.ours(ctx, data, nil)
	if err != nil {
		return nil, err
	}
	stock, err := b.stock(ctx, some, nil)
	if err != nil {
		return nil, err
	}
	c, err := b.crowd()
	if err != nil {
		return nil, err
	}
	defer c.close()
	ask := func(p *plane, count, ahead int) ([]time.Duration, error) {
		r, err := c.do(swarm.Command{Op: "ask", Addr: p.xds, Pattern: certPattern, Count: count, Ahead: ahead, Timeout: 10 * time.Minute})
		if err == nil && r.Resources != count {
			err = fmt.Errorf("%s answered %d of %d names with a certificate", p.name, r.Resources, count)
		}
		return r.Tenths, err
	}
	tenths := make([]time.Duration, 10) // of all rounds together
	for range 3 {
		all, err := ask(ours, many, ahead)
		if err != nil {
			return nil, err
		}
		for i, t := range all {
			tenths[i] += t
		}
	}
	rows := []row{flatness(fmt.Sprintf("%d names one by one on one stream, %d at a time", many, ahead+1), tenths, 3*many)}
	for _, ahead := range []int{ahead, 0} {
		var took [2][]float64
		for range 3 {
			t, err := ask(ours, some, ahead)
			if err != nil {
				return nil, err
			}
			took[0] = append(took[0], total(t).Seconds())
		}
		t, err := ask(stock, some, ahead) // once: it takes long
		if err != nil {
			return nil, err
		}
		took[1] = append(took[1], total(t).Seconds())
		faster := compare(fmt.Sprintf("— %d of them, stock's time by ours, %d at a time", some, ahead+1), took[0], took[1], reported, inSeconds)
		faster.ratio = 1 / faster.ratio
		rows = append(rows, faster.judge(atLeast(50)))
	}
	return rows, nil
}

// askUnknown is one stream that asks for names that do not exist, against an echo stream of a server that does nothing.
func askUnknown(ctx context.Context, b *bench) ([]row, error) {
	count := b.size(20_000, 2000)
	ours, err := b.ours(ctx, "", nil)
	if err != nil {
		return nil, err
	}
	echo, err := b.echo()
	if err != nil {
		return nil, err
	}
	c, err := b.crowd()
	if err != nil {
		return nil, err
	}
	defer c.close()
	var oursRate, echoRate []float64
	tenths := make([]time.Duration, 10) // of all rounds together
	for range 5 {
		r, err := c.do(swarm.Command{Op: "ask", Addr: ours.xds, Pattern: "u%06d.nowhere.example", Count: count})
		if err != nil {
			return nil, err
		}
		if r.Removed != count {
			return nil, fmt.Errorf("%d of %d unknown names were refused", r.Removed, count)
		}
		oursRate = append(oursRate, float64(count)/total(r.Tenths).Seconds())
		for i, t := range r.Tenths {
			tenths[i] += t
		}
		e, err := c.do(swarm.Command{Op: "echo", Addr: echo, Pattern: "u%06d.nowhere.example", Count: count})
		if err != nil {
			return nil, err
		}
		echoRate = append(echoRate, float64(count)/total(e.Tenths).Seconds())
	}
	against := compare("unknown names refused on one stream, against a bare echo stream", oursRate, echoRate, atLeast(0.5), perSecond)
	return []row{against, flatness(fmt.Sprintf("— %d of them, first and last tenth", count), tenths, 5*count)}, nil
}

// flatness compares the last tenth's rate with the first's.
func flatness(what string, tenths []time.Duration, count int) row {
	if len(tenths) != 10 {
		return row{what: what, note: "failed: there are no tenths"}
	}
	rate := func(t time.Duration) float64 { return float64(count) / 10 / t.Seconds() }
	r := compare(what, []float64{rate(tenths[9])}, []float64{rate(tenths[0])}, atLeast(0.8), perSecond)
	r.note = "the last tenth against the first"
	return r
}

func total(tenths []time.Duration) (sum time.Duration) {
	for _, t := range tenths {
		sum += t
	}
	return sum
}
