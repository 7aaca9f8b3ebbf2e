package main

import (
	"crypto/tls"
	"fmt"
	"slices"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/lockstep-tls/lockstep/sds"
	"github.com/lockstep-tls/lockstep/test/fleet"
)

// holder is a node that fetches certificates on demand: one delta stream on ADS, each name asked
// for in a message of its own, each answer ACKed.
type holder struct {
	stream discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesClient
	first  *corev3.Node // nil: it was sent
}

func (b *bench) holder(addr, node string) *holder {
	conn := must(grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(64<<20))))
	b.finish = append(b.finish, func() { conn.Close() })
	return &holder{must(discoveryv3.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(b.ctx)), &corev3.Node{Id: node}}
}

func (h *holder) send(r *discoveryv3.DeltaDiscoveryRequest) error {
	r.TypeUrl, r.Node, h.first = sds.TypeURL, h.first, nil
	return h.stream.Send(r)
}

// take receives an answer and ACKs it. It returns how many resources came.
func (h *holder) take() (int, error) {
	r, err := h.stream.Recv()
	if err != nil {
		return 0, err
	}
	if len(r.RemovedResources) > 0 {
		return 0, fmt.Errorf("%s was called absent", r.RemovedResources[0])
	}
	for _, res := range r.Resources {
		if res.GetTtl() == nil {
			return 0, fmt.Errorf("%s came without a TTL", res.GetName())
		}
	}
	return len(r.Resources), h.send(&discoveryv3.DeltaDiscoveryRequest{ResponseNonce: r.Nonce})
}

// ask asks for names from on, so many, sixteen at a time, and returns what each tenth took.
func (h *holder) ask(from, count int) (tenths []time.Duration) {
	began, waiting := time.Now(), 0
	for i := range count {
		check(h.send(&discoveryv3.DeltaDiscoveryRequest{ResourceNamesSubscribe: []string{certName(from + i)}}))
		for waiting++; waiting > ahead || i == count-1 && waiting > 0; {
			waiting -= must(h.take())
		}
		if (i+1)*10/count > len(tenths) {
			tenths = append(tenths, time.Since(began))
			began = time.Now()
		}
	}
	return tenths
}

// renewals puts count certificates, one after the other, and returns in seconds how long each took
// from the request, so that the store's synced write is in it, until the node had it; stored is how
// long the slowest took until the request was answered.
func (h *holder) renewals(p *plane, pair fleet.Pair, count, of int) (all []float64, stored, cpu time.Duration) {
	body, before := certBody(pair), cpuOf(p.PID())
	for i := range count {
		name := certName(i * (of / count))
		came := make(chan error, 1)
		var at time.Time
		go func() {
			_, err := h.take()
			at = time.Now()
			came <- err
		}()
		began := time.Now()
		p.put(name, body)
		answered := time.Since(began)
		select {
		case err := <-came:
			check(err)
		case <-time.After(patience):
			check(fmt.Errorf("the renewal of %s never came", name))
		}
		took := at.Sub(began).Seconds()
		if len(all) == 0 || took > slices.Max(all) {
			stored = answered
		}
		all = append(all, took)
	}
	return all, stored, cpuOf(p.PID()) - before
}

// renewHeld is one node that holds many names, against the same with a hundredth of them; and the
// memory that this costs.
func renewHeld(b *bench) {
	many, renewed := b.size(100_000, 2000), b.size(1000, 100)
	few := many / 100 * b.size(1, 10)
	p := b.lockstepd(fleet.Lockstepd{Bin: b.bin, Data: b.bigData(), Args: []string{"--node-names", "100000"}})
	h := b.holder(p.xds, "edge-1")
	h.ask(0, few)
	one, two := b.issue(), b.issue()
	with, storedFew, cpuFew := h.renewals(p, one, renewed, few)
	base := p.anonymous()
	var all tenths
	all.add(h.ask(few, many-few))
	full := p.anonymous()
	among, storedMany, cpuMany := h.renewals(p, two, renewed, many)

	each := func(d time.Duration) []float64 { return []float64{d.Seconds() / float64(renewed)} }
	beyond := float64(full-base)/float64(many-few) - float64(len(one.Chain)+len(one.Key))
	slowest := func(what string, all []float64, stored time.Duration) row {
		return quantile(what, all, 1, 50).noted("the store's synced write included: the slowest was answered after %.1f ms", stored.Seconds()*1e3)
	}
	b.add(
		all.flatness(fmt.Sprintf("%d names on ADS one by one, %d at a time", many-few, ahead+1), many-few),
		slowest(fmt.Sprintf("%d renewals of %d names held: from the request until the node has it, slowest (median)", renewed, many), among, storedMany),
		slowest(fmt.Sprintf("— of %d names held", few), with, storedFew),
		compare(fmt.Sprintf("renewals, server CPU of each (store included): %d names held, against %d", many, few), each(cpuMany), each(cpuFew), atMost(1.25), inUS),
		row{what: "memory per certificate that a node holds on demand, beyond its own bytes", ours: inKB(beyond)}.absolute("≤ 1 KB", beyond > 1024),
	)
}

const eagerHost = "eager.bench.example"

// gateway is an Envoy with the shipped configuration: one eager host, all others on demand.
type gateway struct {
	*fleet.Process
	b    *bench
	addr string
}

func (b *bench) gateway(p *plane, up *fleet.Upstream) *gateway {
	o := fleet.OnDemand{Node: b.fresh("edge"), XDS: p.xds, Upstream: up.Addr, Host: eagerHost, Admin: newAddr(), Listen: newAddr()}
	g := &gateway{must(b.fleet.Envoy(o.Node, must(o.Config()), o.Admin)), b, o.Listen}
	b.ready(g.Process)
	b.listening(g.addr)
	return g
}

// shake makes full handshakes with hosts, one after the other, and returns how long each took, in
// seconds.
func (g *gateway) shake(count int, host func(int) string) (all []float64) {
	for i := range count {
		d := tls.Dialer{Config: &tls.Config{ServerName: host(i), InsecureSkipVerify: true}}
		began := time.Now()
		conn, err := d.DialContext(g.b.ctx, "tcp", g.addr)
		if err != nil {
			check(fmt.Errorf("%s: %w", host(i), err))
		}
		all = append(all, time.Since(began).Seconds())
		conn.Close()
	}
	return all
}

// coldHosts is the first handshake of hosts that Envoy does not have: from each store, and from the
// server's memory once another Envoy has them; and what a handshake costs Envoy once it has the
// host.
func coldHosts(b *bench) {
	hosts := b.size(1000, 100)
	up := must(fleet.NewUpstream())
	defer up.Close()
	first := func(in, store string, most float64) (*plane, *gateway) {
		p := b.lockstepd(fleet.Lockstepd{Bin: b.bin, Args: []string{"--store", store}})
		p.put(eagerHost, certBody(b.pair))
		for i := range hosts {
			p.put(certName(i), certBody(b.pair))
		}
		g := b.gateway(p, up)
		b.add(quantile(fmt.Sprintf("cold host, certificate in %s: the first handshakes of %d, p99 (median)", in, hosts), g.shake(hosts, certName), 0.99, most))
		return p, g
	}
	p, _ := first("bbolt", "embedded", 25)
	g := b.gateway(p, up)
	b.add(quantile("cold host, certificate in the server's memory, p99 (median)", g.shake(hosts, certName), 0.99, 20))
	warmHosts(g)
	first("Redis", "redis://"+must(b.fleet.Redis(b.ctx, b.fresh("redis"))).Addr, 60)
}

// warmHosts is Envoy's CPU for a full handshake of a host that it fetched on demand, against one
// that it was given at its start.
func warmHosts(g *gateway) {
	count := g.b.size(3000, 300)
	var cpu [2][]float64
	for range 5 {
		for i, host := range []string{certName(0), eagerHost} {
			before := cpuOf(g.PID())
			g.shake(count, func(int) string { return host })
			cpu[i] = append(cpu[i], (cpuOf(g.PID())-before).Seconds()/float64(count))
		}
	}
	g.b.add(compare("Envoy's CPU per full handshake: warm on-demand host, against a preloaded one", cpu[0], cpu[1], atMost(1.10), inUS).
		noted("the preloaded one makes tickets, too"))
}
