package double_test

import (
	"context"
	"fmt"
	"net"
	"slices"
	"sync"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	secretv3 "github.com/envoyproxy/go-control-plane/envoy/service/secret/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/lockstep-tls/lockstep/test/double"
	"github.com/lockstep-tls/lockstep/test/fleet"
)

// script is a delta xDS server that sends what a test says, and nothing else. It has one ADS and
// one SDS stream at a time.
type script struct {
	addr string
	ads  chan *wire // each stream that a client opens
	sds  chan *wire
	// early are streams of the SDS service that were opened while another was waited for, by the
	// ring's name.
	early map[string]*wire

	discoveryv3.UnimplementedAggregatedDiscoveryServiceServer
	secretv3.UnimplementedSecretDiscoveryServiceServer
}

type (
	request  = discoveryv3.DeltaDiscoveryRequest
	response = discoveryv3.DeltaDiscoveryResponse
	resource = discoveryv3.Resource
)

// wire is one open stream.
type wire struct {
	stream interface {
		Send(*response) error
		Context() context.Context
	}
	requests chan *request
	cut      chan struct{}
	once     sync.Once
	nonce    int
	// subscribed are the names that were asked for, claims the versions of the first request of
	// secrets.
	subscribed []string
	claims     map[string]string
	node       *corev3.Node // of the first request
}

// newScript starts a server that ends with the test.
func newScript(t *testing.T) *script {
	t.Helper()
	addr, err := fleet.Addr()
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	s := &script{addr: addr, ads: make(chan *wire, 8), sds: make(chan *wire, 8), early: map[string]*wire{}}
	g := grpc.NewServer()
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(g, s)
	secretv3.RegisterSecretDiscoveryServiceServer(g, s)
	done := make(chan struct{})
	go func() {
		defer close(done)
		g.Serve(l) // ends with Stop
	}()
	t.Cleanup(func() {
		g.Stop()
		<-done
	})
	return s
}

func (s *script) DeltaAggregatedResources(
	stream discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesServer,
) error {
	return s.serve(stream, s.ads)
}

func (s *script) DeltaSecrets(stream secretv3.SecretDiscoveryService_DeltaSecretsServer) error {
	return s.serve(stream, s.sds)
}

func (s *script) serve(stream interface {
	Send(*response) error
	Recv() (*request, error)
	Context() context.Context
}, opened chan *wire) error {
	w := &wire{stream: stream, requests: make(chan *request), cut: make(chan struct{})}
	gone := make(chan error, 1)
	go func() {
		for {
			r, err := stream.Recv()
			if err != nil {
				gone <- err
				return
			}
			select {
			case w.requests <- r:
			case <-w.cut:
			case <-stream.Context().Done():
			}
		}
	}()
	select {
	case opened <- w:
	case err := <-gone:
		return err
	}
	select {
	case <-w.cut:
		return status.Error(codes.Unavailable, "cut by the script")
	case err := <-gone:
		return err
	}
}

// open waits for the next stream of a kind, until it has asked for the names. A stream of the SDS
// service asks for one ring.
func (s *script) open(ctx context.Context, on double.Stream, names []string) (*wire, error) {
	from := s.ads
	if on == double.SDS {
		from = s.sds
		if w := s.early[names[0]]; w != nil {
			delete(s.early, names[0])
			return w, nil
		}
	}
	for {
		var w *wire
		select {
		case w = <-from:
		case <-ctx.Done():
			return nil, fmt.Errorf("no stream was opened: %w", context.Cause(ctx))
		}
		for {
			r, err := w.next(ctx)
			if err != nil {
				if ctx.Err() != nil {
					return nil, fmt.Errorf("asked for %v, not for %v: %w", w.subscribed, names, err)
				}
				break // the stream has ended, another follows
			}
			if r.GetTypeUrl() != secretType {
				continue
			}
			if w.claims == nil {
				w.claims = map[string]string{}
			}
			for name, version := range r.GetInitialResourceVersions() {
				w.claims[name] = version
			}
			slices.Sort(w.subscribed)
			if slices.Equal(slices.Compact(slices.Clone(w.subscribed)), names) {
				return w, nil
			}
			if on == double.SDS {
				s.early[w.subscribed[0]] = w
				break
			}
		}
	}
}

// next waits for a request.
func (w *wire) next(ctx context.Context) (*request, error) {
	select {
	case r := <-w.requests:
		if w.node == nil {
			w.node = r.GetNode()
		}
		if r.GetTypeUrl() == secretType {
			w.subscribed = append(w.subscribed, r.GetResourceNamesSubscribe()...)
		}
		return r, nil
	case <-w.stream.Context().Done():
		return nil, fmt.Errorf("the stream ended: %w", w.stream.Context().Err())
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// ask sends a response and returns the words of the answer, "" for an ACK.
func (w *wire) ask(ctx context.Context, r *response) (string, error) {
	w.nonce++
	r.Nonce = fmt.Sprint(w.nonce)
	if err := w.stream.Send(r); err != nil {
		return "", err
	}
	for {
		answer, err := w.next(ctx)
		if err != nil {
			return "", err
		}
		if answer.GetTypeUrl() == r.GetTypeUrl() && answer.GetResponseNonce() == r.GetNonce() {
			return answer.GetErrorDetail().GetMessage(), nil
		}
	}
}

// end cuts the stream.
func (w *wire) end() { w.once.Do(func() { close(w.cut) }) }

const secretType = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"
