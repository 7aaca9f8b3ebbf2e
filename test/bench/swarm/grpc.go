package swarm

import (
	"context"
	"crypto/tls"
	"fmt"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	secretv3 "github.com/envoyproxy/go-control-plane/envoy/service/secret/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// liveGRPC is live with the client of grpc-go, which costs what a node's own gRPC costs: it takes
// the whole response apart.
func (n *node) liveGRPC(addr string, names []string, _ *tls.Config) error {
	cc, err := grpc.NewClient("passthrough:///"+addr, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithInitialWindowSize(streamWindow), grpc.WithInitialConnWindowSize(connWindow),
		// stock sends all that a node asks for in one message
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(1<<30)))
	if err != nil {
		return fmt.Errorf("swarm: %w", err)
	}
	defer cc.Close()
	stream, err := secretv3.NewSecretDiscoveryServiceClient(cc).DeltaSecrets(context.Background())
	if err != nil {
		return err
	}
	req := &discoveryv3.DeltaDiscoveryRequest{
		Node: &corev3.Node{Id: n.id, Cluster: "bench"}, TypeUrl: secretType, ResourceNamesSubscribe: names,
	}
	for {
		if err := stream.Send(req); err != nil {
			return err
		}
		n.accepted()
		resp, err := stream.Recv()
		if err != nil {
			return err
		}
		r := response{resources: len(resp.Resources), removed: len(resp.RemovedResources)}
		for _, res := range resp.Resources {
			r.found = r.found || res.Name == n.set.ring
		}
		n.acks = append(n.acks, r)
		req = &discoveryv3.DeltaDiscoveryRequest{TypeUrl: secretType, ResponseNonce: resp.Nonce}
	}
}
