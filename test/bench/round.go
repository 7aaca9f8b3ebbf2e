package main

import (
	"context"
	"fmt"
	"time"

	"github.com/lockstep-tls/lockstep/test/bench/swarm"
)

// rounds of each kind, alternating, after those that warm up.
const (
	rounds = 12
	warmUp = 2
)

// Around each round: time for what an acceptance sets off in the server, and a pause until the next trigger.
const (
	aftermath = 300 * time.Millisecond
	pause     = 700 * time.Millisecond
)

// sample is one round.
type sample struct {
	last   time.Duration // from the trigger to the ACK of the last node
	median time.Duration // to that of half of them
	cpu    time.Duration // of the server, aftermath included
}

// round triggers something on p that its nodes, the set of that name, accept so many times.
func round(ctx context.Context, c *crowd, p *plane, accepts int, trigger func(context.Context) error) (s sample, err error) {
	if _, err := c.do(swarm.Command{Op: "arm", Set: p.name, Accepts: accepts}); err != nil {
		return s, err
	}
	before, err := cpuOf(p.proc.PID())
	if err != nil {
		return s, err
	}
	at := time.Now()
	if err := trigger(ctx); err != nil {
		return s, err
	}
	r, err := c.do(swarm.Command{Op: "wait", Set: p.name})
	if err != nil {
		return s, fmt.Errorf("nodes of %s: %w", p.name, err)
	}
	if err := sleep(ctx, aftermath); err != nil {
		return s, err
	}
	after, err := cpuOf(p.proc.PID())
	if err != nil {
		return s, err
	}
	s = sample{last: time.Unix(0, r.Last).Sub(at), median: time.Unix(0, r.Median).Sub(at), cpu: after - before}
	return s, sleep(ctx, pause)
}

// duel is ours and stock, each with so many nodes that hold the same names, connected and idle.
type duel struct {
	crowd       *crowd
	ours, stock *plane
	nodes       int
}

func (b *bench) duel(ctx context.Context, nodes, certs int, grpc bool) (d *duel, err error) {
	d = &duel{nodes: nodes}
	data, err := b.data(ctx, certs)
	if err != nil {
		return nil, err
	}
	if d.ours, err = b.ours(ctx, data, nil); err != nil {
		return nil, err
	}
	if d.stock, err = b.stock(ctx, certs, nil); err != nil {
		return nil, err
	}
	if d.crowd, err = b.crowd(); err != nil {
		return nil, err
	}
	for _, p := range []*plane{d.ours, d.stock} {
		if err := d.crowd.join(p, nodes, certs, grpc); err != nil {
			d.crowd.close()
			return nil, err
		}
	}
	return d, sleep(ctx, 2*time.Second)
}

// close ends the crowd; bench.end the servers.
func (d *duel) close() { d.crowd.close() }

// join connects nodes to p, one after the other, each asking for the ring and so many certificates.
func (c *crowd) join(p *plane, nodes, certs int, grpc bool) error {
	want := []string{ring}
	for i := range certs {
		want = append(want, certName(i))
	}
	_, err := c.do(swarm.Command{Op: "connect", Set: p.name, Addr: p.xds, Nodes: nodes, Names: want, Parallel: 32, GRPC: grpc})
	if err != nil {
		return fmt.Errorf("nodes of %s: %w", p.name, err)
	}
	return nil
}

func (d *duel) push(ctx context.Context, p *plane) (sample, error) {
	return round(ctx, d.crowd, p, 1, p.push)
}

// rotate is a whole rotation: two pushes, the second once every node has accepted the first.
func (d *duel) rotate(ctx context.Context) (sample, error) {
	resting, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := d.ours.rest(resting); err != nil {
		return sample{}, err
	}
	return round(ctx, d.crowd, d.ours, 2, func(ctx context.Context) error { return d.ours.begin(ctx, "rotate") })
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
