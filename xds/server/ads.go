package server

import (
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"

	"github.com/lockstep-tls/lockstep/xds"
)

// RegisterADS adds the aggregated discovery service, with all types, to g.
func (s *Server) RegisterADS(g grpc.ServiceRegistrar) {
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(g, ads{s: s})
}

type ads struct {
	discoveryv3.UnimplementedAggregatedDiscoveryServiceServer
	s *Server
}

func (a ads) StreamAggregatedResources(
	gs discoveryv3.AggregatedDiscoveryService_StreamAggregatedResourcesServer,
) error {
	return a.s.SotW(gs, xds.ADS, "")
}

func (a ads) DeltaAggregatedResources(gs discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesServer) error {
	return a.s.Delta(gs, xds.ADS, "")
}
