package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/lockstep-tls/lockstep/sds"
	"github.com/lockstep-tls/lockstep/test/fleet"
)

// holder is a node that fetches certificates on demand: one delta stream on ADS, each name asked for in a message of its own, each answer ACKed.
type holder struct {
	conn   *grpc.ClientConn
	stream discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesClient
	first  *corev3.Node // nil: it was sent
}

func hold(ctx context.Context, addr, node string) (*holder, error) {
	conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(64<<20)))
	if err != nil {
		return nil, err
	}
	stream, err := discoveryv3.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(ctx)
	if err != nil {
		conn.Close()
		return nil, err
	}
	return &holder{conn: conn, stream: stream, first: &corev3.Node{Id: node}}, nil
}

func (h *holder) close() { h.conn.Close() }

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
func (h *holder) ask(from, count int) (tenths []time.Duration, err error) {
	began, waiting := time.Now(), 0
	for i := range count {
		if err := h.send(&discoveryv3.DeltaDiscoveryRequest{ResourceNamesSubscribe: []string{certName(from + i)}}); err != nil {
			return nil, err
		}
		for waiting++; waiting > ahead || i == count-1 && waiting > 0; {
			n, err := h.take()
			if err != nil {
				return nil, err
			}
			waiting -= n
		}
		if (i+1)*10/count > len(tenths) {
			tenths = append(tenths, time.Since(began))
			began = time.Now()
		}
	}
	return tenths, nil
}

// renewals puts count certificates, one after the other, and returns in seconds how long each took from the request, so that the store's synced write is in it,
// until the node had it; stored is how long the slowest took until the request was answered.
func (h *holder) renewals(ctx context.Context, p *plane, pair fleet.Pair, count, of int) (all []float64, stored, cpu time.Duration, err error) {
	body, err := json.Marshal(struct{ Chain, Key []byte }{pair.Chain, pair.Key})
	if err != nil {
		return nil, 0, 0, err
	}
	before, err := cpuOf(p.proc.PID())
	if err != nil {
		return nil, 0, 0, err
	}
	for i := range count {
		came := make(chan error, 1)
		var at time.Time
		go func() {
			_, err := h.take()
			at = time.Now()
			came <- err
		}()
		began := time.Now()
		if err := p.call(ctx, http.MethodPut, "/v1/certs/"+certName(i*(of/count)), body, nil); err != nil {
			return nil, 0, 0, err
		}
		answered := time.Since(began)
		select {
		case err = <-came:
		case <-time.After(patience):
			err = fmt.Errorf("the renewal of %s never came", certName(i*(of/count)))
		}
		if err != nil {
			return nil, 0, 0, err
		}
		if took := at.Sub(began).Seconds(); len(all) == 0 || took > slices.Max(all) {
			stored = answered
		}
		all = append(all, at.Sub(began).Seconds())
	}
	after, err := cpuOf(p.proc.PID())
	return all, stored, after - before, err
}

// renewHeld is one node that holds many names, against the same with a hundredth of them; and the memory that this costs.
func renewHeld(ctx context.Context, b *bench) ([]row, error) {
	many, renewed := b.size(100_000, 2000), b.size(1000, 100)
	few := many / 100 * b.size(1, 10)
	data, err := b.bigData(ctx)
	if err != nil {
		return nil, err
	}
	p, err := b.lockstepd(ctx, fleet.Lockstepd{Bin: b.bin, Data: data, Args: []string{"--node-names", "100000"}})
	if err != nil {
		return nil, err
	}
	h, err := hold(ctx, p.xds, "edge-1")
	if err != nil {
		return nil, err
	}
	defer h.close()
	if _, err := h.ask(0, few); err != nil {
		return nil, err
	}
	one, err := b.ca.Issue(fleet.Leaf{Names: []string{"*.bench.example"}})
	if err != nil {
		return nil, err
	}
	two, err := b.ca.Issue(fleet.Leaf{Names: []string{"*.bench.example"}})
	if err != nil {
		return nil, err
	}
	one.Chain, two.Chain = append(one.Chain, b.ca.PEM()...), append(two.Chain, b.ca.PEM()...)
	with, storedFew, cpuFew, err := h.renewals(ctx, p, one, renewed, few)
	if err != nil {
		return nil, err
	}
	base, err := anonymous(ctx, p)
	if err != nil {
		return nil, err
	}
	tenths, err := h.ask(few, many-few)
	if err != nil {
		return nil, err
	}
	full, err := anonymous(ctx, p)
	if err != nil {
		return nil, err
	}
	all, storedMany, cpuMany, err := h.renewals(ctx, p, two, renewed, many)
	if err != nil {
		return nil, err
	}
	each := func(d time.Duration) []float64 { return []float64{d.Seconds() / float64(renewed)} }
	cost := compare(fmt.Sprintf("renewals, server CPU of each (store included): %d names held, against %d", many, few), each(cpuMany), each(cpuFew), atMost(1.25), inUS)
	beyond := float64(full-base)/float64(many-few) - float64(len(one.Chain)+len(one.Key))
	held := row{what: "memory per certificate that a node holds on demand, beyond its own bytes", ours: inKB(beyond), must: "≤ 1 KB", short: beyond > 1024}
	slowest := func(what string, all []float64, stored time.Duration) row {
		r := atMostMS(what, all, 1, 50)
		r.note = fmt.Sprintf("the store's synced write included: the slowest was answered after %.1f ms", stored.Seconds()*1e3)
		return r
	}
	return []row{
		flatness(fmt.Sprintf("%d names on ADS one by one, %d at a time", many-few, ahead+1), tenths, many-few),
		slowest(fmt.Sprintf("%d renewals of %d names held: from the request until the node has it, slowest (median)", renewed, many), all, storedMany),
		slowest(fmt.Sprintf("— of %d names held", few), with, storedFew),
		cost, held,
	}, nil
}
