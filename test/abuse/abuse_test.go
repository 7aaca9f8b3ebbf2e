package abuse

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	secretv3 "github.com/envoyproxy/go-control-plane/envoy/service/secret/v3"
	statusv3 "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/lockstep-tls/lockstep/sds"
	"github.com/lockstep-tls/lockstep/test/fleet"
)

// open starts a delta stream that subscribes to names.
func (s *stage) open(
	ctx context.Context, id string, names ...string,
) (secretv3.SecretDiscoveryService_DeltaSecretsClient, error) {
	stream, err := secretv3.NewSecretDiscoveryServiceClient(s.dial()).DeltaSecrets(ctx)
	if err != nil {
		return nil, err
	}
	return stream, stream.Send(&discoveryv3.DeltaDiscoveryRequest{
		Node: &corev3.Node{Id: id}, TypeUrl: sds.TypeURL, ResourceNamesSubscribe: names,
	})
}

func TestNodesThatNeverACK(t *testing.T) {
	s := setUp(t)
	s.during(func(ctx context.Context) {
		var wg sync.WaitGroup
		for i := range 50 {
			wg.Go(func() {
				stream, err := s.open(ctx, fmt.Sprintf("mute-%d", i), ring)
				for err == nil {
					_, err = stream.Recv()
				}
			})
		}
		wg.Wait()
	})
}

func TestNodesThatNACKEverything(t *testing.T) {
	s := setUp(t)
	answers := 0
	var mu sync.Mutex
	s.during(func(ctx context.Context) {
		var wg sync.WaitGroup
		for i := range 20 {
			wg.Go(func() {
				stream, err := s.open(ctx, fmt.Sprintf("no-%d", i), ring)
				for first := true; err == nil; first = false {
					var r *discoveryv3.DeltaDiscoveryResponse
					if r, err = stream.Recv(); err != nil {
						return
					}
					mu.Lock()
					answers++
					mu.Unlock()
					req := &discoveryv3.DeltaDiscoveryRequest{TypeUrl: sds.TypeURL, ResponseNonce: r.Nonce}
					if !first {
						// the first is accepted, so that it is a member whose refusals count
						req.ErrorDetail = &statusv3.Status{Code: int32(codes.InvalidArgument), Message: "no"}
					}
					err = stream.Send(req)
				}
			})
		}
		wg.Wait()
	})
	// Each push once, and a few retries: far from an answer per refusal, 28 000 a second as a plain
	// cache gives.
	if limit := 3 * 20 * (pushes + 20); answers > limit {
		t.Errorf("%d answers, more than %d", answers, limit)
	}
}

func TestNodesThatSendWrongNonces(t *testing.T) {
	s := setUp(t)
	s.during(func(ctx context.Context) {
		stream, err := s.open(ctx, "liar", ring)
		if err != nil {
			return
		}
		go func() {
			for err := error(nil); err == nil; {
				_, err = stream.Recv()
			}
		}()
		for err == nil { // two thousand a second
			for range 20 {
				if err = stream.Send(&discoveryv3.DeltaDiscoveryRequest{
					TypeUrl: sds.TypeURL, ResponseNonce: fmt.Sprint(rand.Uint64()),
				}); err != nil {
					return
				}
			}
			select {
			case <-ctx.Done():
				return
			case <-time.After(10 * time.Millisecond):
			}
		}
	})
}

func TestANodeThatAsksForTooManyNamesIsToldTheLimit(t *testing.T) {
	s := setUp(t)
	names := make200001()
	told := 0
	s.during(func(ctx context.Context) {
		for ctx.Err() == nil {
			stream, err := s.open(ctx, "greedy", names...)
			for err == nil {
				_, err = stream.Recv()
			}
			if ctx.Err() != nil {
				return
			}
			if status.Code(err) != codes.ResourceExhausted || !strings.Contains(err.Error(), "200000") {
				t.Errorf("it was told: %v", err)
				return
			}
			told++
			select {
			case <-ctx.Done():
			case <-time.After(500 * time.Millisecond):
			}
		}
	})
	if told == 0 {
		t.Error("it was never told")
	}
}

func make200001() []string {
	names := make([]string, 200_001)
	for i := range names {
		names[i] = fmt.Sprintf("h%d.example", i)
	}
	return names
}

// prepared is a codec of messages that are bytes already: what an abuser spends on making them is
// not to be taken from those who share the machine with it here.
type prepared struct{}

func (prepared) Name() string { return "proto" }

func (prepared) Marshal(v any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(v.([]byte))}, nil
}

func (prepared) Unmarshal(b mem.BufferSlice, v any) error {
	*v.(*[]byte) = b.Materialize()
	return nil
}

func TestNodesWithHugeMetadata(t *testing.T) {
	s := setUp(t)
	big, err := structpb.NewStruct(map[string]any{"big": strings.Repeat("x", 4<<20)})
	if err != nil {
		t.Fatal(err)
	}
	// In the headers: the stream is refused.
	ctx := metadata.AppendToOutgoingContext(t.Context(), "x-big", strings.Repeat("x", 1<<20))
	stream, err := s.open(ctx, "header", ring)
	if err == nil {
		_, err = stream.Recv()
	}
	if err == nil {
		t.Error("a megabyte of headers was let in")
	}
	first, err := proto.Marshal(&discoveryv3.DeltaDiscoveryRequest{
		Node: &corev3.Node{Id: "big", Metadata: big}, TypeUrl: sds.TypeURL,
		ResourceNamesSubscribe: []string{"a.example"},
	})
	if err != nil {
		t.Fatal(err)
	}
	s.during(func(ctx context.Context) {
		var wg sync.WaitGroup
		for i := range 4 {
			wg.Go(func() {
				time.Sleep(time.Duration(i) * 50 * time.Millisecond) // they do not march in step
				for ctx.Err() == nil {
					stream, err := s.dial().NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true},
						secretv3.SecretDiscoveryService_DeltaSecrets_FullMethodName, grpc.ForceCodecV2(prepared{}))
					if err != nil {
						return
					}
					if err = stream.SendMsg(first); err == nil {
						_ = stream.RecvMsg(new([]byte))
					}
					select {
					case <-ctx.Done():
					case <-time.After(200 * time.Millisecond):
					}
				}
			})
		}
		wg.Wait()
	})
}

func TestANodeThatOpensTenThousandStreams(t *testing.T) {
	s := setUp(t)
	conn := s.dial()
	s.during(func(ctx context.Context) {
		var wg sync.WaitGroup
		for range 10_000 {
			wg.Go(func() {
				// blocks beyond the limit
				stream, err := secretv3.NewSecretDiscoveryServiceClient(conn).DeltaSecrets(ctx)
				if err != nil {
					return
				}
				_ = stream.Send(&discoveryv3.DeltaDiscoveryRequest{
					Node: &corev3.Node{Id: "many"}, TypeUrl: sds.TypeURL, ResourceNamesSubscribe: []string{"a.example"},
				})
				<-ctx.Done()
			})
		}
		wg.Wait()
	})
}

func TestANodeThatReadsAByteASecondIsCutOff(t *testing.T) {
	s := setUp(t)
	s.during(func(ctx context.Context) {
		began := time.Now()
		base := s.streams()
		stop := s.slowReader(ctx)
		defer stop()
		wait, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		if err := fleet.Until(wait, func() error {
			if n := s.streams(); n <= base {
				return fmt.Errorf("%d streams", n)
			}
			return nil
		}); err != nil {
			t.Errorf("it never subscribed: %v", err)
			return
		}
		if err := fleet.Until(wait, func() error {
			if n := s.streams(); n > base {
				return fmt.Errorf("%d streams, %d without it", n, base)
			}
			return nil
		}); err != nil {
			t.Errorf("it was not cut off: %v", err)
			return
		}
		t.Logf("cut off after %s", time.Since(began).Round(time.Second))
	})
}
