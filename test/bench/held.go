package main

import (
	"context"
	"fmt"
)

// heldMemory is what a certificate costs a server that one node holds, beyond the bytes of its chain and key: the memory with many of them on one
// stream, less that of a server before anything is asked of it; without the pages of the store's file, which the kernel takes back when it needs them.
// Stock has them in its cache whether somebody asks or not.
func heldMemory(ctx context.Context, b *bench) ([]row, error) {
	certs := b.size(100_000, 2000)
	data, err := b.bigData(ctx)
	if err != nil {
		return nil, err
	}
	own := float64(len(b.pair.Chain) + len(b.pair.Key))
	var figures [2][]float64
	for range b.size(3, 1) {
		ours, err := b.ours(ctx, data, nil)
		if err != nil {
			return nil, err
		}
		before, err := anonymous(ctx, ours)
		if err != nil {
			return nil, err
		}
		empty, err := b.stock(ctx, 0, nil)
		if err != nil {
			return nil, err
		}
		beforeStock, err := anonymous(ctx, empty)
		if err != nil {
			return nil, err
		}
		empty.proc.Kill()
		stock, err := b.stock(ctx, certs, nil)
		if err != nil {
			return nil, err
		}
		for i, p := range []*plane{ours, stock} {
			with, err := b.hold(ctx, p, certs)
			if err != nil {
				return nil, err
			}
			each := float64(with-[]int64{before, beforeStock}[i])/float64(certs) - own
			figures[i] = append(figures[i], each)
			b.say("%s with %d certificates on one stream: %s, so one is %s beyond its own %s", p.name, certs, inMB(float64(with)), inKB(each), inKB(own))
			p.proc.Kill() // it has done its part; bench.end would see to it, too
		}
	}
	r := compare(fmt.Sprintf("memory per certificate that a node holds, beyond its own bytes (%d of them on one stream)", certs), figures[0], figures[1], reported, inKB)
	r.must, r.short = "≤ 1 KB", median(figures[0]) > 1024
	return []row{r}, nil
}

// anonymous is the resident memory at rest without the pages of files: those of the embedded store come and go with what else the machine does.
func anonymous(ctx context.Context, p *plane) (int64, error) {
	if _, err := p.settled(ctx); err != nil {
		return 0, err
	}
	return memoryOf(p.proc.PID(), "RssAnon")
}

// hold has one node ask for so many certificates, and returns the server's memory while it holds them.
func (b *bench) hold(ctx context.Context, p *plane, certs int) (int64, error) {
	c, err := b.crowd()
	if err != nil {
		return 0, err
	}
	defer c.close()
	// By grpc-go: the bare client sends a message in one frame, which that list exceeds.
	if err := c.join(p, 1, certs, true); err != nil {
		return 0, err
	}
	return anonymous(ctx, p)
}
