package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/rpc"
	"runtime/debug"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	secretv3 "github.com/envoyproxy/go-control-plane/envoy/service/secret/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/types"
	"github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	"github.com/envoyproxy/go-control-plane/pkg/server/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/mem"

	"github.com/lockstep-tls/lockstep/sds"
	"github.com/lockstep-tls/lockstep/test/bench/swarm"
	"github.com/lockstep-tls/lockstep/test/bench/visit"
	"github.com/lockstep-tls/lockstep/test/fleet"
)

// roles are what this binary is when it is run again with the name of one, and its configuration as
// JSON.
var roles = map[string]func(ctx context.Context, config string) error{
	"stock": role(serveStock), "echo": role(serveEcho), "bare": role(serveBare), "upstream": role(serveUpstream),
	"swarm": role(serveOrders(swarm.New)), "visit": role(serveOrders(visit.New)),
}

func role[C any](serve func(context.Context, C)) func(context.Context, string) error {
	return func(ctx context.Context, config string) error {
		return attempt(func() {
			var c C
			check(json.Unmarshal([]byte(config), &c))
			serve(ctx, c)
		})
	}
}

func listen(addr string) net.Listener { return must(net.Listen("tcp", addr)) }

// The servers of the edge's lines have a core, and clients and upstream have another.
const serverCore, clientCore = "0", "1"

// onCore starts a program on one core, or on all if core is "".
func (b *bench) onCore(core string, c fleet.Command) *fleet.Process {
	if core != "" {
		c.Path, c.Args, c.Env = "taskset",
			append([]string{"-c", core, c.Path}, c.Args...), append(c.Env, "GOMAXPROCS=1")
	}
	return must(b.fleet.Start(c))
}

// role starts this binary in another role.
func (b *bench) role(name string, config any, core string) *fleet.Process {
	args := []string{name, string(must(json.Marshal(config)))}
	return b.onCore(core, fleet.Command{Name: b.fresh(name), Path: b.self, Args: args})
}

// worker is a process that carries out orders.
type worker struct {
	*fleet.Process
	*rpc.Client
}

func (b *bench) worker(name, core string) worker {
	w, addr := worker{}, newAddr()
	w.Process = b.role(name, addr, core)
	b.until(func() (err error) { w.Client, err = rpc.Dial("tcp", addr); return err })
	context.AfterFunc(b.ctx, func() { w.Client.Close() })
	return w
}

// order has an order carried out and waits for its end.
func (w worker) order(command, reply any) { check(w.Call("Orders.Do", command, reply)) }

// serveOrders is the role of a worker. The collector runs seldom, as the processor is scarce.
func serveOrders[W any](worker func() W) func(context.Context, string) {
	return func(_ context.Context, addr string) {
		debug.SetGCPercent(400)
		s := rpc.NewServer()
		check(s.RegisterName("Orders", worker()))
		s.Accept(listen(addr))
	}
}

// stockConfig is of the role stock.
type stockConfig struct {
	XDS, Admin string
	Certs      int // Certs is how many names are there from the start.
	Pair       fleet.Pair
	TLS        *swarm.Files // TLS is nil for plaintext.
}

// serveStock is the role stock: go-control-plane as its documentation puts it together, with a ring
// and certificates in its cache. A burn replaces the ring by one of a single new key.
func serveStock(ctx context.Context, c stockConfig) {
	resources := map[string]types.Resource{ring: newRing()}
	for i := range c.Certs {
		cert := &tlsv3.TlsCertificate{ // each has bytes of its own
			CertificateChain: inline(bytes.Clone(c.Pair.Chain)), PrivateKey: inline(bytes.Clone(c.Pair.Key)),
		}
		resources[certName(i)] = &tlsv3.Secret{
			Name: certName(i), Type: &tlsv3.Secret_TlsCertificate{TlsCertificate: cert},
		}
	}
	linear := cache.NewLinearCache(sds.TypeURL, cache.WithInitialResources(resources))
	var opts []grpc.ServerOption
	if c.TLS != nil {
		opts = append(opts, grpc.Creds(credentials.NewTLS(must(c.TLS.Server()))))
	}
	gs := grpc.NewServer(opts...)
	secretv3.RegisterSecretDiscoveryServiceServer(gs, server.NewServer(ctx, linear, nil))
	http.HandleFunc("POST /v1/scopes/default/burn", func(w http.ResponseWriter, _ *http.Request) {
		if err := linear.UpdateResource(ring, newRing()); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
		fmt.Fprint(w, "{}")
	})
	xds, admin := listen(c.XDS), listen(c.Admin)
	go http.Serve(admin, nil) // ends with the process
	check(gs.Serve(xds))
}

func newRing() *tlsv3.Secret {
	key := make([]byte, 80)
	rand.Read(key) // never fails (crypto/rand)
	keys := &tlsv3.TlsSessionTicketKeys{Keys: []*corev3.DataSource{inline(key)}}
	return &tlsv3.Secret{Name: ring, Type: &tlsv3.Secret_SessionTicketKeys{SessionTicketKeys: keys}}
}

func inline(b []byte) *corev3.DataSource {
	return &corev3.DataSource{Specifier: &corev3.DataSource_InlineBytes{InlineBytes: b}}
}

// serveEcho is the role echo: a gRPC server of default options that sends every message of a stream
// back. It shows what a stream costs when the server does nothing.
func serveEcho(_ context.Context, addr string) {
	echo := func(_ any, stream grpc.ServerStream) error {
		for {
			var m []byte
			if err := stream.RecvMsg(&m); err != nil {
				return err
			}
			if err := stream.SendMsg(&m); err != nil {
				return err
			}
		}
	}
	gs := grpc.NewServer(grpc.ForceServerCodecV2(raw{}), grpc.UnknownServiceHandler(echo))
	check(gs.Serve(listen(addr)))
}

// raw is a codec that leaves messages, which are of type *[]byte, as they are.
type raw struct{}

func (raw) Name() string { return "raw" }

func (raw) Marshal(v any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(*v.(*[]byte))}, nil
}

func (raw) Unmarshal(data mem.BufferSlice, v any) error {
	*v.(*[]byte) = data.Materialize()
	return nil
}

// serveBare is the role bare: net/http with a certificate, whose handler answers at once. A proxy
// on net/http cannot cost less.
func serveBare(_ context.Context, l listener) {
	answer := func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte(smallBody)) }
	check(http.ListenAndServeTLS(l.Addr, l.Chain, l.Key, http.HandlerFunc(answer)))
}

const smallBody = "What an upstream says: a hundred bytes, more or less, " +
	"as a small piece of JSON would be, and then the end\n"

// serveUpstream is the role upstream: it answers each request's header, and reads no more of
// HTTP/1.1, so that proxies are what is measured.
func serveUpstream(_ context.Context, addr string) {
	answer := fmt.Appendf(nil, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n"+
		"Date: Mon, 02 Nov 2026 10:00:00 GMT\r\n\r\n%s", len(smallBody), smallBody)
	for ln := listen(addr); ; {
		conn := must(ln.Accept())
		go func() {
			defer conn.Close()
			for r := bufio.NewReader(conn); ; {
				line, err := r.ReadSlice('\n')
				if err == nil && len(line) <= 2 {
					_, err = conn.Write(answer)
				}
				if err != nil {
					return // io.EOF mostly; a header line longer than the buffer does not occur
				}
			}
		}()
	}
}
