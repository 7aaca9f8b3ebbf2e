package daemon

import (
	"net/http"

	"google.golang.org/grpc"
	"google.golang.org/grpc/reflection"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"
)

// reflectionOf answers gRPC reflection for the services of nodes, on the admin address. What is
// served is an operator's question, and nodes do not get to ask it. It needs the role read.
func reflectionOf(services *grpc.Server) http.Handler {
	describe := grpc.NewServer()
	reflectionv1.RegisterServerReflectionServer(describe,
		reflection.NewServerV1(reflection.ServerOptions{Services: services}))
	return describe
}
