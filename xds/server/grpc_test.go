package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	secretv3 "github.com/envoyproxy/go-control-plane/envoy/service/secret/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/lockstep-tls/lockstep/xds"
	"github.com/lockstep-tls/lockstep/xds/client"
)

// sds shows how a service of one type is put on a server.
type sds struct {
	secretv3.UnimplementedSecretDiscoveryServiceServer
	s *Server
}

func (d sds) DeltaSecrets(gs secretv3.SecretDiscoveryService_DeltaSecretsServer) error {
	return d.s.Delta(gs, xds.SDS, testType)
}

func (d sds) FetchSecrets(ctx context.Context, r *discoveryv3.DiscoveryRequest) (*discoveryv3.DiscoveryResponse,
	error) {
	return d.s.Fetch(ctx, r, xds.SDS)
}

// listen serves s on addr (empty: any) until the test ends or stop is called.
func listen(t *testing.T, s *Server, addr string) (at string, stop func()) {
	t.Helper()
	if addr == "" {
		addr = "127.0.0.1:0"
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	g := grpc.NewServer(Options()...)
	s.RegisterADS(g)
	secretv3.RegisterSecretDiscoveryServiceServer(g, sds{s: s})
	var wg sync.WaitGroup
	wg.Go(func() { _ = g.Serve(l) })
	stop = sync.OnceFunc(func() { g.Stop(); wg.Wait() })
	t.Cleanup(stop)
	return l.Addr().String(), stop
}

func dial(t *testing.T, addr string) *grpc.ClientConn {
	t.Helper()
	c, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func timeout(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// eventually waits for what happens in other goroutines over real connections.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(15 * time.Second); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}

func TestGeneratedClientsDecodeWhatIsSent(t *testing.T) {
	src := newTable()
	r := thing("a", "1", 30<<10)
	for i := range r.Body.Value {
		r.Body.Value[i] = byte(i * 7)
	}
	r.Until = time.Now().Add(time.Hour)
	src.put(r, "a")
	src.absent("b")
	addr, _ := listen(t, New(Config{Types: map[string]xds.Resources{testType: src}, OnDemand: testType}), "")
	ads := discoveryv3.NewAggregatedDiscoveryServiceClient(dial(t, addr))

	delta, err := ads.DeltaAggregatedResources(timeout(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := delta.Send(req{sub: []string{"a", "b"}}.delta()); err != nil {
		t.Fatal(err)
	}
	removed, err := delta.Recv()
	if err != nil || !slices.Equal(removed.RemovedResources, []string{"b"}) || removed.TypeUrl != testType {
		t.Fatalf("%v, %v", removed, err)
	}
	for _, version := range []string{"1", "2"} {
		d, err := delta.Recv()
		if err != nil {
			t.Fatal(err)
		}
		got := d.Resources[0]
		if got.Name != "a" || got.Version != version || !bytes.Equal(got.Resource.Value, r.Body.Value) ||
			got.Ttl.AsDuration() < 58*time.Minute || got.Ttl.AsDuration() >= time.Hour {
			t.Errorf("got %.200v", d)
		}
		if err := delta.Send(req{nonce: d.Nonce}.delta()); err != nil {
			t.Fatal(err)
		}
		src.put(&xds.Resource{Name: "a", Version: "2", Body: r.Body, Until: r.Until}, "a")
	}

	sotw, err := ads.StreamAggregatedResources(timeout(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := sotw.Send(&discoveryv3.DiscoveryRequest{Node: testNode, TypeUrl: testType,
		ResourceNames: []string{"a"}}); err != nil {
		t.Fatal(err)
	}
	d, err := sotw.Recv()
	if err != nil || d.VersionInfo != "2" || d.TypeUrl != testType || len(d.Resources) != 1 {
		t.Fatalf("%.200v, %v", d, err)
	}
	if !bytes.Equal(d.Resources[0].Value, r.Body.Value) {
		t.Error("state of the world: other bytes")
	}

	one := secretv3.NewSecretDiscoveryServiceClient(dial(t, addr))
	f, err := one.FetchSecrets(timeout(t),
		&discoveryv3.DiscoveryRequest{Node: testNode, TypeUrl: testType, ResourceNames: []string{"a"}})
	if err != nil || f.VersionInfo != "2" {
		t.Errorf("fetch: %.200v, %v", f, err)
	}
}

func TestEndsWithAStatusThatSaysWhy(t *testing.T) {
	addr, _ := listen(t, newServer(newTable(), nil), "")
	ads := discoveryv3.NewAggregatedDiscoveryServiceClient(dial(t, addr))
	long := names("n", defaults.names+1)
	for name, c := range map[string]struct {
		req  *discoveryv3.DeltaDiscoveryRequest
		code codes.Code
	}{
		"no node":        {&discoveryv3.DeltaDiscoveryRequest{TypeUrl: testType}, codes.InvalidArgument},
		"too many names": {req{sub: long}.delta(), codes.ResourceExhausted},
	} {
		st, err := ads.DeltaAggregatedResources(timeout(t))
		if err != nil {
			t.Fatal(err)
		}
		if err := st.Send(c.req); err != nil {
			t.Fatal(err)
		}
		if _, err := st.Recv(); status.Code(err) != c.code {
			t.Errorf("%s: %v", name, err)
		}
	}
	ctx := metadata.AppendToOutgoingContext(timeout(t), "huge", string(make([]byte, 100<<10)))
	if st, err := ads.DeltaAggregatedResources(ctx); err == nil {
		if _, err = st.Recv(); err == nil {
			t.Error("huge metadata was taken")
		}
	}
}

func TestClientThatDoesNotReadIsCutOffAndOthersAreServed(t *testing.T) {
	src := newTable()
	all := names("n", 60)
	for _, n := range all {
		src.put(thing(n, "1", 20<<10), n)
	}
	s := newServer(src, nil)
	s.env.limits.cutOff = 300 * time.Millisecond
	addr, _ := listen(t, s, "")
	ads := discoveryv3.NewAggregatedDiscoveryServiceClient(dial(t, addr))

	deaf, err := ads.DeltaAggregatedResources(timeout(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := deaf.Send(req{sub: all}.delta()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the stream is open", func() bool { return s.Stats().Responses > 0 })
	good, err := ads.DeltaAggregatedResources(timeout(t)) // on the same connection
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := good.Send(req{sub: []string{"n1"}}.delta()); err != nil {
			t.Fatal(err)
		}
		if _, err := good.Recv(); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "cut off", func() bool { return s.Stats().CutOff == 1 && s.Stats().Streams == 1 })
	for err == nil {
		_, err = deaf.Recv()
	}
	if status.Code(err) != codes.Canceled {
		t.Error(err)
	}
}

// follower is a client and what it applied.
type follower struct {
	*client.Client
	mu   sync.Mutex
	have map[string]string
	n    int // calls
	fail error
}

func follow(t *testing.T, addr, method string) *follower {
	f := &follower{have: make(map[string]string)}
	f.Client = client.New(client.Config{Conn: dial(t, addr), Node: testNode, Type: testType, Method: method,
		Apply: f.apply})
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { _ = f.Run(ctx) })
	t.Cleanup(func() { cancel(); wg.Wait() })
	return f
}

func (f *follower) apply(res []*xds.Resource, removed []string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.n++
	if f.fail != nil {
		return f.fail
	}
	for _, r := range res {
		f.have[r.Name] = r.Version
	}
	for _, n := range removed {
		f.have[n] = "removed"
	}
	return nil
}

func (f *follower) get(name string) string { f.mu.Lock(); defer f.mu.Unlock(); return f.have[name] }
func (f *follower) calls() int             { f.mu.Lock(); defer f.mu.Unlock(); return f.n }

func TestClientFollowsAndResumesInSilence(t *testing.T) {
	for _, method := range []string{"", secretv3.SecretDiscoveryService_DeltaSecrets_FullMethodName} {
		src := newTable()
		var mu sync.Mutex
		accepted := make(map[string]int)
		observe := func(e xds.Event) {
			mu.Lock()
			defer mu.Unlock()
			if e.Kind == xds.Accepted {
				accepted[e.Name+"@"+e.Version]++
			}
		}
		count := func(k string) int { mu.Lock(); defer mu.Unlock(); return accepted[k] }

		src.set("a", "1")
		src.absent("b")
		addr, stop := listen(t, newServer(src, observe), "")
		f := follow(t, addr, method)
		f.Subscribe("a", "b", "c")
		eventually(t, "first answers", func() bool { return f.get("a") == "1" && f.get("b") == "removed" })
		src.set("c", "1")
		eventually(t, "push", func() bool { return f.get("c") == "1" && count("c@1") == 1 })
		f.Subscribe("d")
		src.set("d", "1")
		f.Unsubscribe("b")
		eventually(t, "a name more", func() bool { return f.get("d") == "1" && count("d@1") == 1 })

		stop()
		src.set("c", "2") // while nobody is there
		before := f.calls()
		_, stop = listen(t, newServer(src, observe), addr)
		eventually(t, "resumed", func() bool {
			return count("a@1") == 2 && count("d@1") == 2 && count("c@2") == 1 && f.get("c") == "2"
		})
		if n := f.calls() - before; n != 1 {
			t.Errorf("%d calls of Apply after the reconnect, want 1", n)
		}
		stop()
	}
}

func TestClientRefusalReachesTheServerInItsOwnWords(t *testing.T) {
	src := newTable()
	src.set("a", "1")
	s := newServer(src, nil)
	addr, _ := listen(t, s, "")
	f := follow(t, addr, "")
	f.fail = errors.New("key does not match")
	f.Subscribe("a")
	eventually(t, "refused", func() bool {
		for _, v := range s.Streams(t.Context(), Query{Node: "n1"}) {
			for _, n := range v.Names {
				if n.Refused != nil && n.Refused.Words == "key does not match" && n.State(time.Now()) == "refused" {
					return true
				}
			}
		}
		return false
	})
	f.mu.Lock()
	f.fail = nil
	f.mu.Unlock()
	src.set("a", "2")
	eventually(t, "the next version", func() bool { return f.get("a") == "2" })
}

func TestTenThousandNamesOneByOne(t *testing.T) {
	src := newTable()
	all := names("n", 10_000)
	for _, n := range all {
		src.put(&xds.Resource{Name: n, Version: "1", Body: &anypb.Any{TypeUrl: testType}}, n)
	}
	s := newServer(src, nil)
	addr, _ := listen(t, s, "")
	st, err := discoveryv3.NewAggregatedDiscoveryServiceClient(dial(t, addr)).DeltaAggregatedResources(timeout(t))
	if err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	for _, n := range all {
		if err := st.Send(req{sub: []string{n}}.delta()); err != nil {
			t.Fatal(err)
		}
		d, err := st.Recv()
		if err != nil || d.Resources[0].Name != n {
			t.Fatal(d, err)
		}
		if err := st.Send(req{nonce: d.Nonce}.delta()); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%.0f names/s", float64(len(all))/time.Since(start).Seconds())
	src.mu.Lock()
	lookups := src.lookups
	src.mu.Unlock()
	if lookups != len(all) {
		t.Errorf("%d look-ups for %d names", lookups, len(all))
	}
	s.Drain()
	for err == nil {
		_, err = st.Recv()
	}
	// UNAVAILABLE: the last ACK was still being handled.
	if c := status.Code(err); c != codes.Canceled && c != codes.Unavailable {
		t.Error(err)
	}
	eventually(t, "nothing is watched", func() bool { return src.watched() == 0 })
}

// TestANodeThatHoldsAllThatItMayComesBack: names as long as a client can send them, listed with
// their versions in one request, as Envoy does.
func TestANodeThatHoldsAllThatItMayComesBack(t *testing.T) {
	const version = "0123456789abcdef01234567" // as long as a certificate's
	src := newTable()
	long := func(i int) string { return fmt.Sprintf("%06d.%s", i, strings.Repeat("x", 248)) }
	fit := defaults.wire / wireSize(long(0))
	all := make([]string, fit+1000)
	for i := range all {
		all[i] = long(i)
		src.put(&xds.Resource{Name: all[i], Version: version, Body: &anypb.Any{TypeUrl: testType}}, all[i])
	}
	s := New(Config{Types: map[string]xds.Resources{testType: src}, OnDemand: testType, Hold: len(all)})
	addr, _ := listen(t, s, "")
	conn := dial(t, addr)
	ads := discoveryv3.NewAggregatedDiscoveryServiceClient(conn)
	open := func() discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesClient {
		st, err := ads.DeltaAggregatedResources(timeout(t))
		if err != nil {
			t.Fatal(err)
		}
		return st
	}
	// take reads until all of n names are answered.
	take := func(st discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesClient,
		n int) (have map[string]string, removed []string) {
		have = map[string]string{}
		for len(have)+len(removed) < n {
			d, err := st.Recv()
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range d.Resources {
				have[r.Name] = r.Version
			}
			removed = append(removed, d.RemovedResources...)
			if err := st.Send(req{nonce: d.Nonce}.delta()); err != nil {
				t.Fatal(err)
			}
		}
		return have, removed
	}
	st := open()
	have, removed := map[string]string{}, []string(nil)
	for some := range slices.Chunk(all, 1000) { // as clients come
		if err := st.Send(req{sub: some}.delta()); err != nil {
			t.Fatal(err)
		}
		got, not := take(st, len(some))
		maps.Copy(have, got)
		removed = append(removed, not...)
	}
	if len(have) != fit || len(removed) != 1000 {
		t.Fatalf("%d are held, %d were refused, of %d that fit", len(have), len(removed), fit)
	}
	if err := st.CloseSend(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the stream ends", func() bool { return s.Stats().Streams == 0 })

	again := req{have: have}
	for n := range have {
		again.sub = append(again.sub, n)
	}
	size := proto.Size(again.delta())
	if size > defaults.wire || size < defaults.wire*9/10 {
		t.Errorf("the request has %d bytes, of %d that it may", size, defaults.wire)
	}
	st = open()
	if err := st.Send(again.delta()); err != nil {
		t.Fatal(err)
	}
	if err := st.Send(req{sub: removed[:1]}.delta()); err != nil {
		t.Fatal(err)
	}
	d, err := st.Recv()
	if err != nil || len(d.Resources) != 0 || !slices.Equal(d.RemovedResources, removed[:1]) {
		t.Fatalf("not silence, and one refusal: %d resources, %d removed, %v", len(d.GetResources()),
			len(d.GetRemovedResources()), err)
	}
	// and there is room
	if err := st.Send(req{nonce: d.Nonce, unsub: append(removed[:1:1], again.sub[0])}.delta()); err != nil {
		t.Fatal(err)
	}
	if err := st.Send(req{sub: removed[:1]}.delta()); err != nil {
		t.Fatal(err)
	}
	if have, _ := take(st, 1); have[removed[0]] != version {
		t.Errorf("one that left made no room: %v", have)
	}
}
