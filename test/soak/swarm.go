package main

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	secretv3 "github.com/envoyproxy/go-control-plane/envoy/service/secret/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/lockstep-tls/lockstep/sds"
	"github.com/lockstep-tls/lockstep/xds"
	"github.com/lockstep-tls/lockstep/xds/client"
)

// swarm is the nodes: each a connection and a client of its own.
type swarm struct {
	addr string
	came atomic.Int64
	wg   sync.WaitGroup
}

func newSwarm(addr string) *swarm { return &swarm{addr: addr} }

// run keeps the number of nodes, replacing the oldest each churn.
func (s *swarm) run(ctx context.Context) {
	defer s.wg.Wait()
	var live []context.CancelFunc
	tick := time.NewTicker(churn)
	defer tick.Stop()
	for ctx.Err() == nil {
		for len(live) < nodes {
			live = append(live, s.node(ctx))
		}
		select {
		case <-ctx.Done():
		case <-tick.C:
			live[0]()
			live = live[1:]
		}
	}
	for _, stop := range live {
		stop()
	}
}

func (s *swarm) node(parent context.Context) context.CancelFunc {
	ctx, cancel := context.WithCancel(parent)
	id := fmt.Sprintf("node-%d", s.came.Add(1))
	s.wg.Go(func() {
		conn, err := grpc.NewClient(s.addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			return // only a malformed address fails here
		}
		defer conn.Close()
		c := client.New(client.Config{
			Conn: conn, Node: &corev3.Node{Id: id, UserAgentName: xds.EdgeAgent}, Type: sds.TypeURL,
			Method: secretv3.SecretDiscoveryService_DeltaSecrets_FullMethodName,
			Apply:  func([]*xds.Resource, []string) error { return nil },
		})
		c.Subscribe("tickets/default")
		_ = c.Run(ctx) // ends with ctx
	})
	return cancel
}
