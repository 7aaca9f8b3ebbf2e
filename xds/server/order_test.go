package server

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"sync"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/lockstep-tls/lockstep/xds"
)

// Connections wait in the kernel while the server hangs. Its streams are numbered as they are
// served, their connections as they came.
func TestConnectionsAreNumberedAsTheyCame(t *testing.T) {
	for _, network := range []string{"tcp", "unix"} {
		t.Run(network, func(t *testing.T) {
			addr := "127.0.0.1:0"
			if network == "unix" {
				addr = filepath.Join(t.TempDir(), "xds")
			}
			inner, err := net.Listen(network, addr)
			if err != nil {
				t.Fatal(err)
			}
			const conns = 5
			var clients []*grpc.ClientConn
			for range conns {
				waiting, err := net.Dial(network, inner.Addr().String())
				if err != nil {
					t.Fatal(err)
				}
				c, err := grpc.NewClient("passthrough:///x", grpc.WithTransportCredentials(insecure.NewCredentials()),
					grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) { return waiting, nil }))
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { c.Close() })
				clients = append(clients, c)
			}

			var mu sync.Mutex
			got := map[string]xds.Node{}
			src := newTable()
			src.put(thing("a", "1", 10), "a")
			s := New(Config{Types: map[string]xds.Resources{testType: src}, Observe: func(e xds.Event) {
				mu.Lock()
				got[e.Node.ID] = e.Node
				mu.Unlock()
			}})
			l, creds := Ordered(inner, insecure.NewCredentials())
			g := grpc.NewServer(append(Options(), grpc.Creds(bareCredentials{creds, t}))...)
			s.RegisterADS(g)
			var wg sync.WaitGroup
			wg.Go(func() { _ = g.Serve(l) })
			t.Cleanup(func() { g.Stop(); wg.Wait() })

			for i := conns - 1; i >= 0; i-- {
				stream, err := discoveryv3.NewAggregatedDiscoveryServiceClient(clients[i]).
					DeltaAggregatedResources(timeout(t))
				if err != nil {
					t.Fatal(err)
				}
				r := req{sub: []string{"a"}}.delta()
				r.Node = &corev3.Node{Id: fmt.Sprint(i + 1)}
				if err := stream.Send(r); err != nil {
					t.Fatal(err)
				}
				if _, err := stream.Recv(); err != nil {
					t.Fatal(err)
				}
			}
			mu.Lock()
			defer mu.Unlock()
			for i := range uint64(conns) {
				if n := got[fmt.Sprint(i+1)]; n.Conn != i+1 || n.Stream != conns-i {
					t.Errorf("connection %d has number %d, its stream %d", i+1, n.Conn, n.Stream)
				}
			}
		})
	}
}

// bareCredentials fail the test where gRPC does not get the connection itself, whose
// TCP_USER_TIMEOUT it sets.
type bareCredentials struct {
	credentials.TransportCredentials
	t *testing.T
}

func (c bareCredentials) ServerHandshake(raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	switch raw.(type) {
	case *net.TCPConn, *net.UnixConn:
	default:
		c.t.Errorf("gRPC got a %T", raw)
	}
	conn, info, err := c.TransportCredentials.ServerHandshake(raw)
	if conn != raw {
		c.t.Errorf("gRPC serves a %T: it has a buffer for each connection", conn)
	}
	return conn, info, err
}
