package client

import (
	"context"
	"errors"
	"net"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/lockstep-tls/lockstep/xds"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const testType = "type.googleapis.com/test.Thing"

// scripted is a server that a test plays by hand: it sees each stream, its requests, and sends
// what it likes.
type scripted struct {
	discoveryv3.UnimplementedAggregatedDiscoveryServiceServer
	streams chan *played
}

type played struct {
	discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesServer
	at  time.Time
	end chan error
}

func (s *scripted) DeltaAggregatedResources(
	gs discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesServer,
) error {
	p := &played{gs, time.Now(), make(chan error)}
	select {
	case s.streams <- p:
	case <-gs.Context().Done():
		return nil
	}
	select {
	case err := <-p.end:
		return err
	case <-gs.Context().Done():
		return nil
	}
}

// applied is what Apply was called with.
type applied struct {
	names   []string
	removed []string
	reply   chan error
}

// play runs test against a client in a bubble of its own time.
func play(t *testing.T, test func(t *testing.T, c *Client, s *scripted, apply <-chan applied)) {
	synctest.Test(t, func(t *testing.T) {
		l := bufconn.Listen(1 << 20)
		s := &scripted{streams: make(chan *played)}
		g := grpc.NewServer()
		discoveryv3.RegisterAggregatedDiscoveryServiceServer(g, s)
		var wg sync.WaitGroup
		wg.Go(func() { _ = g.Serve(l) })
		conn, err := grpc.NewClient("passthrough:///x", grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn,
				error) {
				return l.DialContext(ctx)
			}))
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		calls := make(chan applied)
		c := New(Config{Conn: conn, Node: &corev3.Node{Id: "n1"}, Type: testType,
			Apply: func(res []*xds.Resource, removed []string) error {
				a := applied{removed: removed, reply: make(chan error)}
				for _, r := range res {
					a.names = append(a.names, r.Name+"@"+r.Version)
				}
				select {
				case calls <- a:
					return <-a.reply
				case <-ctx.Done():
					return ctx.Err()
				}
			}})
		wg.Go(func() {
			if err := c.Run(ctx); err != nil {
				t.Errorf("Run: %v", err)
			}
		})
		test(t, c, s, calls)
		cancel()
		conn.Close()
		g.Stop()
		wg.Wait()
	})
}

func (p *played) recv(t *testing.T) *discoveryv3.DeltaDiscoveryRequest {
	t.Helper()
	r, err := p.Recv()
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(r.ResourceNamesSubscribe)
	slices.Sort(r.ResourceNamesUnsubscribe)
	return r
}

// send sends a response; "-a" removes a, "a" is a@1.
func (p *played) send(t *testing.T, nonce string, names ...string) {
	t.Helper()
	d := &discoveryv3.DeltaDiscoveryResponse{Nonce: nonce, TypeUrl: testType}
	for _, n := range names {
		if n[0] == '-' {
			d.RemovedResources = append(d.RemovedResources, n[1:])
			continue
		}
		d.Resources = append(d.Resources,
			&discoveryv3.Resource{Name: n, Version: "1", Resource: &anypb.Any{}, Ttl: durationpb.New(time.Minute)})
	}
	if err := p.Send(d); err != nil {
		t.Fatal(err)
	}
}

func TestAcknowledgesWhatWasAppliedAndRefusesWhatWasNot(t *testing.T) {
	play(t, func(t *testing.T, c *Client, s *scripted, apply <-chan applied) {
		c.Subscribe("a", "b", "", "*", "\xff")
		p := <-s.streams
		first := p.recv(t)
		if first.Node.GetId() != "n1" || first.TypeUrl != testType || !slices.Equal(first.ResourceNamesSubscribe,
			[]string{"a", "b"}) || len(first.InitialResourceVersions) != 0 {
			t.Errorf("first request %v", first)
		}
		p.send(t, "1", "a")
		call := <-apply
		if !slices.Equal(call.names, []string{"a@1"}) {
			t.Errorf("applied %v", call)
		}
		call.reply <- nil
		if r := p.recv(t); r.ResponseNonce != "1" || r.ErrorDetail != nil || r.Node != nil {
			t.Errorf("ack %v", r)
		}
		p.send(t, "2", "b")
		call = <-apply
		call.reply <- errors.New("b is bad")
		if r := p.recv(t); r.ResponseNonce != "2" || r.ErrorDetail.GetMessage() != "b is bad" {
			t.Errorf("nack %v", r)
		}
		p.end <- status.Error(codes.Unavailable, "over")
		p = <-s.streams
		if r := p.recv(t); len(r.InitialResourceVersions) != 1 || r.InitialResourceVersions["a"] != "1" ||
			len(r.ResourceNamesSubscribe) != 2 {
			t.Errorf("after the reconnect: %v", r)
		}
		p.send(t, "3", "-a")
		call = <-apply
		call.reply <- nil
		p.recv(t)
		p.end <- nil
		p = <-s.streams
		if r := p.recv(t); len(r.InitialResourceVersions) != 0 {
			t.Errorf("after a removal: %v", r)
		}
	})
}

func TestNamesComeAndGoAtAnyTime(t *testing.T) {
	play(t, func(t *testing.T, c *Client, s *scripted, apply <-chan applied) {
		time.Sleep(time.Minute)
		select {
		case <-s.streams:
			t.Fatal("a stream without names: its first request would mean everything")
		default:
		}
		c.Subscribe("a")
		p := <-s.streams
		p.recv(t)
		p.send(t, "1", "a")
		(<-apply).reply <- nil
		p.recv(t)
		c.Subscribe("b", "c")
		if r := p.recv(t); !slices.Equal(r.ResourceNamesSubscribe, []string{"b", "c"}) || r.ResponseNonce != "" {
			t.Errorf("%v", r)
		}
		c.Subscribe("a")
		if r := p.recv(t); !slices.Equal(r.ResourceNamesSubscribe, []string{"a"}) {
			t.Errorf("asked again: %v", r)
		}
		c.Unsubscribe("a", "b")
		if r := p.recv(t); !slices.Equal(r.ResourceNamesUnsubscribe, []string{"a", "b"}) {
			t.Errorf("%v", r)
		}
		p.send(t, "2", "a") // was under way: acknowledged, not applied
		if r := p.recv(t); r.ResponseNonce != "2" {
			t.Errorf("%v", r)
		}
		p.end <- nil
		p = <-s.streams
		if r := p.recv(t); !slices.Equal(r.ResourceNamesSubscribe, []string{"c"}) ||
			len(r.InitialResourceVersions) != 0 {
			t.Errorf("after the reconnect: %v", r)
		}
		c.Unsubscribe("c")
		p.recv(t)
		p.end <- nil
		time.Sleep(time.Minute)
		select {
		case <-s.streams:
			t.Error("a stream without names")
		default:
		}
	})
}

func TestReconnectBacksOffBetween200MillisecondsAnd2Seconds(t *testing.T) {
	play(t, func(t *testing.T, c *Client, s *scripted, apply <-chan applied) {
		c.Subscribe("a")
		p := <-s.streams
		for i := range 10 {
			ended := time.Now()
			p.end <- status.Error(codes.ResourceExhausted, "no")
			p = <-s.streams
			d := p.at.Sub(ended)
			if d < 200*time.Millisecond || d > 2*time.Second || i > 5 && d < time.Second {
				t.Errorf("attempt %d after %v", i, d)
			}
		}
		p.recv(t)
		p.send(t, "1", "a")
		(<-apply).reply <- nil
		p.recv(t)
		ended := time.Now()
		p.end <- nil
		p = <-s.streams
		if d := p.at.Sub(ended); d > 400*time.Millisecond {
			t.Errorf("after an answer: %v", d)
		}
	})
}
