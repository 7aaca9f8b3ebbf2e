package sds

import (
	"context"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	secretv3 "github.com/envoyproxy/go-control-plane/envoy/service/secret/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/xds"
	"github.com/lockstep-tls/lockstep/xds/server"
)

// TypeURL is the xDS resource type of secrets.
const TypeURL = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"

// Register adds the SecretDiscoveryService to gs. srv must stream a [Table] under [TypeURL].
func Register(gs *grpc.Server, srv *server.Server) {
	secretv3.RegisterSecretDiscoveryServiceServer(gs, service{srv: srv})
}

type service struct {
	secretv3.UnimplementedSecretDiscoveryServiceServer
	srv *server.Server
}

func (s service) DeltaSecrets(stream secretv3.SecretDiscoveryService_DeltaSecretsServer) error {
	return s.srv.Delta(stream, xds.SDS, TypeURL)
}

func (s service) StreamSecrets(stream secretv3.SecretDiscoveryService_StreamSecretsServer) error {
	return s.srv.SotW(stream, xds.SDS, TypeURL)
}

// FetchSecrets answers for certificates only. Nobody would know whether a node uses a ring that it
// fetched.
func (s service) FetchSecrets(ctx context.Context, req *discoveryv3.DiscoveryRequest) (*discoveryv3.DiscoveryResponse,
	error) {
	for _, name := range req.GetResourceNames() {
		if _, ring := keysource.RingScope(name); ring {
			return nil, status.Errorf(codes.InvalidArgument,
				"%q is a ring of ticket keys: subscribe to it on a stream (DeltaSecrets)", name)
		}
	}
	req.TypeUrl = TypeURL
	return s.srv.Fetch(ctx, req, xds.SDS)
}
