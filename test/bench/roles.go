package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	_ "net/http/pprof"

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
	"github.com/lockstep-tls/lockstep/test/fleet"
)

// roles are what this binary is when it is run again with the name of one, and its configuration as
// JSON.
var roles = map[string]func(ctx context.Context, config string) error{
	"stock": role(serveStock), "echo": role(serveEcho), "bare": role(serveBare), "upstream": role(serveUpstream),
}

func role[C any](serve func(context.Context, C) error) func(context.Context, string) error {
	return func(ctx context.Context, config string) error {
		var c C
		if err := json.Unmarshal([]byte(config), &c); err != nil {
			return err
		}
		return serve(ctx, c)
	}
}

// stockConfig is of the role stock.
type stockConfig struct {
	XDS, Control string // host:port
	Certs        int    // how many names are there from the start
	Pair         fleet.Pair
	TLS          *swarm.Files // nil: plaintext
}

// serveStock is the role stock: go-control-plane as its documentation puts it together, with a ring
// and certificates in its cache. GET /readyz answers when it serves; POST /push replaces the ring
// by one of a single new key.
func serveStock(ctx context.Context, c stockConfig) error {
	resources := map[string]types.Resource{ring: newRing()}
	for i := range c.Certs {
		name := certName(i)
		resources[name] = &tlsv3.Secret{Name: name, Type: &tlsv3.Secret_TlsCertificate{TlsCertificate: &tlsv3.TlsCertificate{
			// each its own
			CertificateChain: inline(bytes.Clone(c.Pair.Chain)), PrivateKey: inline(bytes.Clone(c.Pair.Key)),
		}}}
	}
	linear := cache.NewLinearCache(sds.TypeURL, cache.WithInitialResources(resources))
	var opts []grpc.ServerOption
	if c.TLS != nil {
		config, err := c.TLS.Server()
		if err != nil {
			return err
		}
		opts = append(opts, grpc.Creds(credentials.NewTLS(config)))
	}
	gs := grpc.NewServer(opts...)
	secretv3.RegisterSecretDiscoveryServiceServer(gs, server.NewServer(ctx, linear, nil))
	listener, err := net.Listen("tcp", c.XDS)
	if err != nil {
		return err
	}
	http.HandleFunc("GET /readyz", func(http.ResponseWriter, *http.Request) {})
	http.HandleFunc("POST /push", func(w http.ResponseWriter, _ *http.Request) {
		if err := linear.UpdateResource(ring, newRing()); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
	})
	errs := make(chan error, 2)
	go func() { errs <- gs.Serve(listener) }()
	go func() { errs <- http.ListenAndServe(c.Control, nil) }()
	return <-errs
}

func newRing() *tlsv3.Secret {
	key := make([]byte, 80)
	rand.Read(key) // never fails (crypto/rand)
	return &tlsv3.Secret{Name: ring, Type: &tlsv3.Secret_SessionTicketKeys{
		SessionTicketKeys: &tlsv3.TlsSessionTicketKeys{Keys: []*corev3.DataSource{inline(key)}},
	}}
}

func inline(b []byte) *corev3.DataSource {
	return &corev3.DataSource{Specifier: &corev3.DataSource_InlineBytes{InlineBytes: b}}
}

// serveEcho is the role echo: a gRPC server of default options that sends every message of a stream
// back, and so shows what a stream costs when the server does nothing.
func serveEcho(_ context.Context, addr string) error {
	gs := grpc.NewServer(grpc.ForceServerCodecV2(raw{}), grpc.UnknownServiceHandler(func(_ any, stream grpc.ServerStream) error {
		for {
			var m []byte
			if err := stream.RecvMsg(&m); err != nil {
				return err
			}
			if err := stream.SendMsg(&m); err != nil {
				return err
			}
		}
	}))
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	return gs.Serve(l)
}

// raw leaves messages, which are of type *[]byte, as they are.
type raw struct{}

func (raw) Name() string { return "raw" }

func (raw) Marshal(v any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(*v.(*[]byte))}, nil
}

func (raw) Unmarshal(data mem.BufferSlice, v any) error {
	*v.(*[]byte) = data.Materialize()
	return nil
}

// bareConfig is of the role bare.
type bareConfig struct {
	Addr string
	Pair fleet.Pair
}

// serveBare is the role bare: net/http with a certificate, whose handler answers at once. A proxy
// on net/http cannot cost less.
func serveBare(_ context.Context, c bareConfig) error {
	cert, err := tls.X509KeyPair(c.Pair.Chain, c.Pair.Key)
	if err != nil {
		return err
	}
	s := &http.Server{
		Addr: c.Addr, TLSConfig: &tls.Config{Certificates: []tls.Certificate{cert}},
		Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte(smallBody)) }),
	}
	return s.ListenAndServeTLS("", "")
}

const smallBody = "What an upstream says: a hundred bytes, more or less, as a small piece of JSON would be, and then the end\n"

// serveUpstream is the role upstream: it answers each request's header, and reads no more of
// HTTP/1.1, so that proxies are what is measured.
func serveUpstream(_ context.Context, addr string) error {
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	answer := fmt.Appendf(nil, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n"+
		"Date: Mon, 02 Nov 2026 10:00:00 GMT\r\n\r\n%s", len(smallBody), smallBody)
	for {
		conn, err := ln.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer conn.Close()
			for r := bufio.NewReader(conn); ; {
				line, err := r.ReadSlice('\n')
				if err != nil {
					return // io.EOF mostly; a header line longer than the buffer does not occur
				}
				if len(line) > 2 {
					continue
				}
				if _, err := conn.Write(answer); err != nil {
					return
				}
			}
		}()
	}
}
