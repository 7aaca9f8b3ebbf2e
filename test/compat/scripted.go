package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	secretv3 "github.com/envoyproxy/go-control-plane/envoy/service/secret/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/lockstep-tls/lockstep/test/fleet"
)

// scripted is a control plane for one Envoy that does only what the script says: it sends a
// certificate when it is told to, the same bytes twice if that is what it is told, and shows the
// answer. A ring is sent at once, since a chain needs one.
type scripted struct {
	addr string

	discoveryv3.UnimplementedAggregatedDiscoveryServiceServer
	secretv3.UnimplementedSecretDiscoveryServiceServer

	server *grpc.Server
	done   chan struct{}
	// the stream on which Envoy asked for the certificate
	subscribed chan delta
	answers    chan *discoveryv3.DeltaDiscoveryRequest // to what give sent
	mu         sync.Mutex                              // one Send at a time
	nonce      int
}

// delta is a stream of either service.
type delta interface {
	Send(*discoveryv3.DeltaDiscoveryResponse) error
	Recv() (*discoveryv3.DeltaDiscoveryRequest, error)
	Context() context.Context
}

const ringName = "tickets/default"

func newScripted() (*scripted, error) {
	s := &scripted{
		done: make(chan struct{}), subscribed: make(chan delta), answers: make(chan *discoveryv3.DeltaDiscoveryRequest),
	}
	var err error
	if s.addr, err = fleet.Addr(); err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", s.addr)
	if err != nil {
		return nil, err
	}
	// The bootstrap pings each 5 s, which is more often than grpc-go allows by default.
	s.server = grpc.NewServer(grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{
		MinTime: time.Second, PermitWithoutStream: true,
	}))
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(s.server, s)
	secretv3.RegisterSecretDiscoveryServiceServer(s.server, s)
	go func() {
		defer close(s.done)
		s.server.Serve(l) // until close
	}()
	return s, nil
}

func (s *scripted) close() {
	s.server.Stop()
	<-s.done
}

// DeltaAggregatedResources serves the certificate.
func (s *scripted) DeltaAggregatedResources(
	d discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesServer,
) error {
	return s.serve(d)
}

// DeltaSecrets serves the ring.
func (s *scripted) DeltaSecrets(d secretv3.SecretDiscoveryService_DeltaSecretsServer) error {
	return s.serve(d)
}

func (s *scripted) serve(d delta) error {
	for {
		req, err := d.Recv()
		if err != nil {
			return err
		}
		for _, name := range req.GetResourceNamesSubscribe() {
			if name == ringName {
				if _, err := s.send(d, ring()); err != nil {
					return err
				}
				continue
			}
			select {
			case s.subscribed <- d:
			case <-d.Context().Done():
				return d.Context().Err()
			}
		}
		_, certificates := d.(discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesServer)
		if !certificates || req.GetResponseNonce() == "" {
			continue
		}
		select {
		case s.answers <- req:
		case <-d.Context().Done():
			return d.Context().Err()
		}
	}
}

// give sends a secret on the stream, and returns the words with which Envoy refuses it; "" is an
// ACK.
func (s *scripted) give(ctx context.Context, d delta, secret *tlsv3.Secret) (words string, err error) {
	nonce, err := s.send(d, secret)
	if err != nil {
		return "", err
	}
	for {
		select {
		case a := <-s.answers:
			if a.GetResponseNonce() != nonce {
				continue
			}
			if e := a.GetErrorDetail(); e != nil {
				return e.GetMessage(), nil
			}
			return "", nil
		case <-d.Context().Done():
			return "", errors.New("the stream was ended by Envoy")
		case <-ctx.Done():
			return "", fmt.Errorf("no answer of Envoy: %w", ctx.Err())
		}
	}
}

// send gives equal secrets the same version, as lockstepd does.
func (s *scripted) send(d delta, secret *tlsv3.Secret) (nonce string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	resource, err := anypb.New(secret)
	if err != nil {
		return "", err
	}
	s.nonce++
	nonce = fmt.Sprint(s.nonce)
	version := fmt.Sprintf("%x", resource.GetValue())
	return nonce, d.Send(&discoveryv3.DeltaDiscoveryResponse{
		SystemVersionInfo: nonce, Nonce: nonce, TypeUrl: "type.googleapis.com/" + string(proto.MessageName(secret)),
		Resources: []*discoveryv3.Resource{
			{Name: secret.GetName(), Version: version[max(0, len(version)-64):], Resource: resource},
		},
	})
}

func ring() *tlsv3.Secret {
	key := make([]byte, 80)
	rand.Read(key)
	return &tlsv3.Secret{Name: ringName, Type: &tlsv3.Secret_SessionTicketKeys{
		SessionTicketKeys: &tlsv3.TlsSessionTicketKeys{Keys: []*corev3.DataSource{inline(key)}},
	}}
}

func certificate(p fleet.Pair) *tlsv3.Secret {
	return &tlsv3.Secret{Name: eagerHost, Type: &tlsv3.Secret_TlsCertificate{
		TlsCertificate: &tlsv3.TlsCertificate{CertificateChain: inline(p.Chain), PrivateKey: inline(p.Key)},
	}}
}

func inline(b []byte) *corev3.DataSource {
	return &corev3.DataSource{Specifier: &corev3.DataSource_InlineBytes{InlineBytes: b}}
}
