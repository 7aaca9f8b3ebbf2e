package server

import (
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	secretv3 "github.com/envoyproxy/go-control-plane/envoy/service/secret/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/lockstep-tls/lockstep/xds"
)

// A node that may not connect is turned away before it is sent anything, on every kind of request,
// and nobody hears of it. One that may no longer loses its stream.
func TestANodeThatMayNotConnectIsTurnedAway(t *testing.T) {
	src := newTable()
	src.set("a", "1")
	var closed atomic.Bool // nobody may connect any more
	var mu sync.Mutex
	var heard []string // ids of which events were reported
	s := New(Config{
		Types: map[string]xds.Resources{testType: src},
		Admit: func(n xds.Node) error {
			if closed.Load() || n.ID != "good" {
				return errors.New("no such id here: " + n.ID)
			}
			return nil
		},
		Observe: func(e xds.Event) {
			mu.Lock()
			defer mu.Unlock()
			heard = append(heard, e.Node.ID)
		},
	})
	addr, _ := listen(t, s, "")
	conn := dial(t, addr)
	ads := discoveryv3.NewAggregatedDiscoveryServiceClient(conn)
	secrets := secretv3.NewSecretDiscoveryServiceClient(conn)
	delta := func(id string) *discoveryv3.DeltaDiscoveryRequest {
		return &discoveryv3.DeltaDiscoveryRequest{Node: &corev3.Node{Id: id}, TypeUrl: testType,
			ResourceNamesSubscribe: []string{"a"}}
	}
	sotw := func(id string) *discoveryv3.DiscoveryRequest {
		return &discoveryv3.DiscoveryRequest{Node: &corev3.Node{Id: id}, TypeUrl: testType,
			ResourceNames: []string{"a"}}
	}
	for name, ask := range map[string]func(id string) error{
		"delta on ADS": func(id string) error {
			st, err := ads.DeltaAggregatedResources(timeout(t))
			return answer(st, err, delta(id))
		},
		"state of the world on ADS": func(id string) error {
			st, err := ads.StreamAggregatedResources(timeout(t))
			return answer(st, err, sotw(id))
		},
		"delta on the service of one type": func(id string) error {
			st, err := secrets.DeltaSecrets(timeout(t))
			return answer(st, err, delta(id))
		},
		"fetch": func(id string) error {
			_, err := secrets.FetchSecrets(timeout(t), sotw(id))
			return err
		},
	} {
		err := ask("bad")
		if status.Code(err) != codes.PermissionDenied || !strings.Contains(err.Error(), "no such id here: bad") {
			t.Errorf("%s: %v", name, err)
		}
		if err := ask("good"); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	mu.Lock()
	for _, id := range heard {
		if id != "good" {
			t.Errorf("an event was reported of node %q", id)
		}
	}
	mu.Unlock()

	st, err := ads.DeltaAggregatedResources(timeout(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := st.Send(delta("good")); err != nil {
		t.Fatal(err)
	}
	if _, err := st.Recv(); err != nil {
		t.Fatal(err)
	}
	s.AdmitAnew()
	if s.Stats().Streams == 0 {
		t.Error("a node that may connect lost its stream")
	}
	closed.Store(true)
	s.AdmitAnew()
	if _, err := st.Recv(); err == nil {
		t.Error("a node that may no longer connect keeps its stream")
	}
	eventually(t, "no stream is left", func() bool { return s.Stats().Streams == 0 })
}

// answer sends the first request of a stream that was opened with err, and returns how the stream
// answers.
func answer[Req, Resp any](st grpc.BidiStreamingClient[Req, Resp], err error, first *Req) error {
	if err != nil {
		return err
	}
	if err := st.Send(first); err != nil {
		return err
	}
	_, err = st.Recv()
	return err
}
