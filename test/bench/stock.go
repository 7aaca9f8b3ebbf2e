package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	_ "net/http/pprof"
	"os"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	secretv3 "github.com/envoyproxy/go-control-plane/envoy/service/secret/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/types"
	"github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	"github.com/envoyproxy/go-control-plane/pkg/server/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/lockstep-tls/lockstep/sds"
	"github.com/lockstep-tls/lockstep/test/bench/swarm"
	"github.com/lockstep-tls/lockstep/test/fleet"
)

// stockConfig is the argument of the role stock.
type stockConfig struct {
	XDS, Control string // host:port
	Certs        int    // how many names are there from the start
	Pair         fleet.Pair
	TLS          *swarm.Files // nil: plaintext
}

// serveStock is the role stock: go-control-plane as its documentation puts it together, with a ring and certificates in its cache.
// GET /readyz answers when it serves; POST /push replaces the ring by one of a single new key.
func serveStock(ctx context.Context, arg string) error {
	var c stockConfig
	if err := roleConfig(arg, &c); err != nil {
		return err
	}
	resources := map[string]types.Resource{ring: newRing()}
	for i := range c.Certs {
		name := certName(i)
		resources[name] = &tlsv3.Secret{Name: name, Type: &tlsv3.Secret_TlsCertificate{
			TlsCertificate: &tlsv3.TlsCertificate{CertificateChain: inline(bytes.Clone(c.Pair.Chain)), PrivateKey: inline(bytes.Clone(c.Pair.Key))}, // each its own
		}}
	}
	linear := cache.NewLinearCache(sds.TypeURL, cache.WithInitialResources(resources))
	var opts []grpc.ServerOption
	if c.TLS != nil {
		config, err := serverTLS(c.TLS)
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

func serverTLS(f *swarm.Files) (*tls.Config, error) {
	pair, err := tls.LoadX509KeyPair(f.Cert, f.Key)
	if err != nil {
		return nil, err
	}
	pem, err := os.ReadFile(f.CA)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, errors.New("no certificate in " + f.CA)
	}
	return &tls.Config{Certificates: []tls.Certificate{pair}, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert}, nil
}

// stock starts one with so many certificates. With TLS files, nodes come over mTLS.
func (b *bench) stock(ctx context.Context, certs int, files *mTLS) (*plane, error) {
	c := stockConfig{Certs: certs, Pair: b.pair}
	if files != nil {
		c.TLS = files.server
	}
	for _, addr := range []*string{&c.XDS, &c.Control} {
		var err error
		if *addr, err = fleet.Addr(); err != nil {
			return nil, err
		}
	}
	proc, err := b.role("stock", c, "http://"+c.Control+"/readyz")
	if err != nil {
		return nil, err
	}
	p := &plane{name: "stock", proc: proc, xds: c.XDS, control: "http://" + c.Control, client: &http.Client{}}
	p.push = func(ctx context.Context) error { return p.call(ctx, http.MethodPost, "/push", nil, nil) }
	p.rest = func(context.Context) error { return nil }
	return p, p.ready(ctx)
}

// certName is the i-th certificate's name.
func certName(i int) string { return fmt.Sprintf(certPattern, i) }

const certPattern = "n%06d.bench.example"
