package daemon

import (
	"net/http"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/reflection"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"
)

// withReflection answers gRPC reflection for the services of nodes, on the admin address. What is
// served is an operator's question, and nodes do not get to ask it. Everything else goes to next.
func withReflection(services *grpc.Server, next http.Handler) http.Handler {
	describe := grpc.NewServer()
	reflectionv1.RegisterServerReflectionServer(describe,
		reflection.NewServerV1(reflection.ServerOptions{Services: services}))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor == 2 && strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc") {
			describe.ServeHTTP(w, r)
			return
		}
		next.ServeHTTP(w, r)
	})
}
