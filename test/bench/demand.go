package main

import (
	"crypto/tls"
	"fmt"
	"slices"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/lockstep-tls/lockstep/sds"
	"github.com/lockstep-tls/lockstep/test/bench/swarm"
	"github.com/lockstep-tls/lockstep/test/fleet"
)

// holder is a node that fetches certificates on demand. It has one delta stream on ADS, asks for
// each name in a message of its own, and ACKs each answer.
type holder struct {
	conn   *grpc.ClientConn
	stream discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesClient
	node   *corev3.Node // node goes into the first message; then it is nil.
}

func (b *bench) holder(addr string) *holder {
	conn := must(grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(64<<20))))
	stream := must(discoveryv3.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(b.ctx))
	return &holder{conn, stream, &corev3.Node{Id: "edge-1"}}
}

func (h *holder) send(nonce string, names ...string) error {
	r := &discoveryv3.DeltaDiscoveryRequest{
		Node: h.node, TypeUrl: sds.TypeURL, ResponseNonce: nonce, ResourceNamesSubscribe: names,
	}
	h.node = nil
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
	return len(r.Resources), h.send(r.Nonce)
}

// ask asks for names from on, so many, sixteen at a time, and returns what each tenth took.
func (h *holder) ask(from, count int) swarm.Tenths {
	waiting := 0
	return must(swarm.InTenths(count, func(i int) error {
		check(h.send("", certName(from+i)))
		for waiting++; waiting > ahead || i == count-1 && waiting > 0; {
			waiting -= must(h.take())
		}
		return nil
	}))
}

// renew renews so many of the names held, one after the other. All are seconds from the request,
// with the store's synced write, until the node had it. Stored are those until the slowest was
// answered. Cpu is the server's for each.
func (h *holder) renew(p *plane, pair fleet.Pair, count, held int) (all []float64, stored, cpu float64) {
	body, before := certBody(pair), cpuOf(p.PID())
	for i := range count {
		var at time.Time
		var g errgroup.Group
		g.Go(func() error {
			_, err := h.take()
			at = time.Now()
			return err
		})
		watchdog := time.AfterFunc(patience, func() { h.conn.Close() })
		name, began := certName(i*(held/count)), time.Now()
		p.put(name, body)
		answered := time.Since(began).Seconds()
		if err := g.Wait(); err != nil {
			check(fmt.Errorf("the renewal of %s: %w", name, err))
		}
		watchdog.Stop()
		all = append(all, at.Sub(began).Seconds())
		if slices.Max(all) == all[i] {
			stored = answered
		}
	}
	return all, stored, (cpuOf(p.PID()) - before) / float64(count)
}

// renewHeld is one node that holds many names, against the same with a hundredth of them, and the
// memory that this costs.
func renewHeld(b *bench) {
	many, count := b.size(100_000, 2000), b.size(1000, 100)
	few := many / 100 * b.size(1, 10)
	p := b.ours(b.keptData(many), "--node-names", "100000")
	h := b.holder(p.XDS)
	defer h.conn.Close()
	h.ask(0, few)
	one, two := b.issue("*.bench.example"), b.issue("*.bench.example")
	ofFew, storedFew, cpuFew := h.renew(p, one, count, few)
	base := b.anonymous(p.Process)
	asked := h.ask(few, many-few)
	beyond := (b.anonymous(p.Process)-base)/float64(many-few) - float64(len(one.Chain)+len(one.Key))
	ofMany, storedMany, cpuMany := h.renew(p, two, count, many)

	const note = "the store's synced write included: the slowest was answered after %.1f ms"
	b.add(
		flatness(asked, many-few, "%d names on ADS one by one, %d at a time", many-few, ahead+1),
		quantile(ofMany, 1, 50,
			"%d renewals of %d names held: from the request until the node has it, slowest (median)", count, many).
			noted(note, storedMany*1e3),
		quantile(ofFew, 1, 50, "— of %d names held", few).noted(note, storedFew*1e3),
		compare(figures{{cpuMany}, {cpuFew}}, atMost(1.25), inUS,
			"renewals, server CPU of each (store included): %d names held, against %d", many, few),
		single(inKB(beyond), "memory per certificate that a node holds on demand, beyond its own bytes").
			absolute("≤ 1 KB", beyond > 1024),
	)
}

const eagerHost = "eager.bench.example"

// gateway starts an Envoy with the shipped configuration: one eager host, all others on demand.
func (b *bench) gateway(p *plane, up *fleet.Upstream) *peer {
	o := fleet.OnDemand{
		Node: b.fresh("edge"), XDS: p.XDS, Upstream: up.Addr, Host: eagerHost, Admin: newAddr(), Listen: newAddr(),
	}
	g := &peer{Process: must(b.fleet.Envoy(o.Node, must(o.Config()), o.Admin)), addr: o.Listen}
	b.soon(g.Ready)
	b.listening(g.addr)
	return g
}

// shake makes full handshakes with hosts, one after the other, and returns how long each took, in
// seconds.
func (b *bench) shake(g *peer, count int, host func(int) string) (all []float64) {
	for i := range count {
		d := tls.Dialer{Config: &tls.Config{ServerName: host(i), InsecureSkipVerify: true}}
		began := time.Now()
		conn, err := d.DialContext(b.ctx, "tcp", g.addr)
		if err != nil {
			check(fmt.Errorf("%s: %w", host(i), err))
		}
		all = append(all, time.Since(began).Seconds())
		conn.Close()
	}
	return all
}

// coldHosts is the first handshake of hosts that Envoy does not have: from each store, and from the
// server's memory once another Envoy has them. It is also Envoy's CPU for a full handshake, of a
// host that it fetched on demand against one that it was given at its start.
func coldHosts(b *bench) {
	hosts, body := b.size(1000, 100), certBody(b.pair)
	up := must(fleet.NewUpstream())
	defer up.Close()
	first := func(in, store string, most float64) *plane {
		p := b.ours("", "--store", store)
		p.put(eagerHost, body)
		for i := range hosts {
			p.put(certName(i), body)
		}
		b.add(quantile(b.shake(b.gateway(p, up), hosts, certName), 0.99, most,
			"cold host, certificate in %s: the first handshakes of %d, p99 (median)", in, hosts))
		return p
	}
	g := b.gateway(first("bbolt", "embedded", 25), up)
	b.add(quantile(b.shake(g, hosts, certName), 0.99, 20,
		"cold host, certificate in the server's memory, p99 (median)"))
	count := b.size(3000, 300)
	var cpu figures
	for range 5 {
		for side, host := range []string{certName(0), eagerHost} {
			before := cpuOf(g.PID())
			b.shake(g, count, func(int) string { return host })
			cpu.add(side, (cpuOf(g.PID())-before)/float64(count))
		}
	}
	b.add(compare(cpu, atMost(1.10), inUS, "Envoy's CPU per full handshake: warm on-demand host, against a "+
		"preloaded one").
		noted("the preloaded one makes tickets, too"))
	first("Redis", "redis://"+must(b.fleet.Redis(b.ctx, b.fresh("redis"))).Addr, 60)
}
