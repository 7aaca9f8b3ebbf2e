package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/lockstep-tls/lockstep/test/fleet"
)

// atMostMS is a row of the q-quantile of times in seconds, with their median.
func atMostMS(what string, all []float64, q, most float64) row {
	slices.Sort(all)
	at := all[min(int(q*float64(len(all))), len(all)-1)] * 1e3
	return row{what: what, ours: fmt.Sprintf("%.1f ms (%.1f ms)", at, median(all)*1e3), must: fmt.Sprintf("≤ %.0f ms", most), short: at > most}
}

// edge is an Envoy with the shipped configuration: one eager host, all others on demand.
type edge struct {
	*fleet.Process
	addr string
}

func (b *bench) edge(ctx context.Context, p *plane, up *fleet.Upstream) (*edge, error) {
	e := &edge{}
	o := fleet.OnDemand{Node: b.fresh("edge"), XDS: p.xds, Upstream: up.Addr, Host: eagerHost}
	for _, addr := range []*string{&o.Admin, &o.Listen} {
		var err error
		if *addr, err = fleet.Addr(); err != nil {
			return nil, err
		}
	}
	e.addr = o.Listen
	config, err := o.Config()
	if err != nil {
		return nil, err
	}
	if e.Process, err = b.fleet.Envoy(o.Node, config, o.Admin); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := e.Ready(ctx); err != nil {
		return nil, err
	}
	return e, awaitPort(e.addr)
}

// shake makes full handshakes with hosts, one after the other, and returns how long each took, in seconds.
func (e *edge) shake(ctx context.Context, count int, host func(int) string) (all []float64, err error) {
	for i := range count {
		d := tls.Dialer{Config: &tls.Config{ServerName: host(i), InsecureSkipVerify: true}}
		began := time.Now()
		conn, err := d.DialContext(ctx, "tcp", e.addr)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", host(i), err)
		}
		all = append(all, time.Since(began).Seconds())
		conn.Close()
	}
	return all, nil
}

const eagerHost = "eager.bench.example"

// coldHosts is the first handshake of hosts that Envoy does not have: from each store, and from the server's memory once another Envoy has them; and
// what a handshake costs Envoy once it has the host.
func coldHosts(ctx context.Context, b *bench) (rows []row, err error) {
	hosts := b.size(1000, 100)
	up, err := fleet.NewUpstream()
	if err != nil {
		return nil, err
	}
	defer up.Close()
	redis, err := b.fleet.Redis(ctx, b.fresh("redis"))
	if err != nil {
		return nil, err
	}
	body, err := json.Marshal(struct{ Chain, Key []byte }{b.pair.Chain, b.pair.Key})
	if err != nil {
		return nil, err
	}
	for _, s := range []struct {
		name, store string
		most        float64
	}{{"bbolt", "embedded", 25}, {"Redis", "redis://" + redis.Addr, 60}} {
		p, err := b.lockstepd(ctx, fleet.Lockstepd{Bin: b.bin, Args: []string{"--store", s.store}})
		if err != nil {
			return rows, err
		}
		for i := range hosts + 1 {
			name := eagerHost
			if i < hosts {
				name = certName(i)
			}
			if err := p.call(ctx, http.MethodPut, "/v1/certs/"+name, body, nil); err != nil {
				return rows, err
			}
		}
		e, err := b.edge(ctx, p, up)
		if err != nil {
			return rows, err
		}
		all, err := e.shake(ctx, hosts, certName)
		if err != nil {
			return rows, err
		}
		rows = append(rows, atMostMS(fmt.Sprintf("cold host, certificate in %s: the first handshakes of %d, p99 (median)", s.name, hosts), all, 0.99, s.most))
		if s.store != "embedded" {
			continue
		}
		if e, err = b.edge(ctx, p, up); err != nil {
			return rows, err
		}
		if all, err = e.shake(ctx, hosts, certName); err != nil {
			return rows, err
		}
		warm, err := b.warmHosts(ctx, e)
		if err != nil {
			return rows, err
		}
		rows = append(rows, atMostMS("cold host, certificate in the server's memory, p99 (median)", all, 0.99, 20), warm)
	}
	return rows, nil
}

// warmHosts is Envoy's CPU for a full handshake of a host that it fetched on demand, against one that it was given at its start.
func (b *bench) warmHosts(ctx context.Context, e *edge) (row, error) {
	count := b.size(3000, 300)
	var cpu [2][]float64
	for range 5 {
		for i, host := range []string{certName(0), eagerHost} {
			before, err := cpuOf(e.PID())
			if err != nil {
				return row{}, err
			}
			if _, err := e.shake(ctx, count, func(int) string { return host }); err != nil {
				return row{}, err
			}
			after, err := cpuOf(e.PID())
			if err != nil {
				return row{}, err
			}
			cpu[i] = append(cpu[i], (after-before).Seconds()/float64(count))
		}
	}
	r := compare("Envoy's CPU per full handshake: warm on-demand host, against a preloaded one", cpu[0], cpu[1], atMost(1.10), inUS)
	r.note = "the preloaded one makes tickets, too"
	return r, nil
}
