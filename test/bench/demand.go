package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
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
	bytes  int          // of the last resource
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
		h.bytes = len(res.GetResource().GetValue())
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

// renewals puts count certificates, one after the other, and returns in seconds how long it took from the answer to the request, when the store has it, until the
// node had each. A push that is quicker than the answer counts as none.
func (h *holder) renewals(ctx context.Context, p *plane, pair fleet.Pair, count, of int) (all []float64, cpu time.Duration, err error) {
	body, err := json.Marshal(struct{ Chain, Key []byte }{pair.Chain, pair.Key})
	if err != nil {
		return nil, 0, err
	}
	before, err := cpuOf(p.proc.PID())
	if err != nil {
		return nil, 0, err
	}
	for i := range count {
		came := make(chan error, 1)
		var at time.Time
		go func() {
			_, err := h.take()
			at = time.Now()
			came <- err
		}()
		if err := p.call(ctx, http.MethodPut, "/v1/certs/"+certName(i*(of/count)), body, nil); err != nil {
			return nil, 0, err
		}
		put := time.Now()
		select {
		case err = <-came:
		case <-time.After(patience):
			err = fmt.Errorf("the renewal of %s never came", certName(i*(of/count)))
		}
		if err != nil {
			return nil, 0, err
		}
		all = append(all, max(0, at.Sub(put).Seconds()))
	}
	after, err := cpuOf(p.proc.PID())
	return all, after - before, err
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
	with, cpuFew, err := h.renewals(ctx, p, one, renewed, few)
	if err != nil {
		return nil, err
	}
	base, err := p.anonymous(ctx)
	if err != nil {
		return nil, err
	}
	tenths, err := h.ask(few, many-few)
	if err != nil {
		return nil, err
	}
	full, err := p.anonymous(ctx)
	if err != nil {
		return nil, err
	}
	all, cpuMany, err := h.renewals(ctx, p, two, renewed, many)
	if err != nil {
		return nil, err
	}
	stock, err := b.stockHolds(ctx, many)
	if err != nil {
		return nil, err
	}
	each := func(d time.Duration) []float64 { return []float64{d.Seconds() / float64(renewed)} }
	cost := compare(fmt.Sprintf("renewals, server CPU of each (store included): %d names held, against %d", many, few), each(cpuMany), each(cpuFew), atMost(1.25), inUS)
	beyond := row{what: "memory per certificate that a node holds, beyond its own bytes", ours: inKB(float64(full-base)/float64(many-few) - float64(h.bytes)), stock: inKB(stock), must: "≤ 1 KB"}
	beyond.short = float64(full-base)/float64(many-few)-float64(h.bytes) > 1024
	beyond.note = fmt.Sprintf("a certificate with its key is %s, and held in one copy by stock, which no node has asked for any", inKB(float64(h.bytes)))
	return []row{
		flatness(fmt.Sprintf("%d names on ADS one by one, %d at a time", many-few, ahead+1), tenths, many-few),
		atMostMS(fmt.Sprintf("%d renewals of %d names held: until the node has one, slowest (median)", renewed, many), all, 1, 50),
		atMostMS(fmt.Sprintf("— of %d names held", few), with, 1, 50),
		cost, beyond,
	}, nil
}

// anonymous is the resident memory at rest without the pages of files: those of the embedded store come and go with what else the machine does.
func (p *plane) anonymous(ctx context.Context) (int64, error) {
	if _, err := p.settled(ctx); err != nil {
		return 0, err
	}
	return memoryOf(p.proc.PID(), "RssAnon")
}

// stockHolds is the memory that each of so many certificates takes in a LinearCache, in bytes.
func (b *bench) stockHolds(ctx context.Context, certs int) (float64, error) {
	var rss [2]int64
	for i, n := range []int{0, certs} {
		p, err := b.stock(ctx, n, nil)
		if err != nil {
			return 0, err
		}
		if rss[i], err = p.anonymous(ctx); err != nil {
			return 0, err
		}
		if err := p.proc.Kill(); err != nil {
			return 0, err
		}
	}
	return float64(rss[1]-rss[0]) / float64(certs), nil
}
