package sds_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	secretv3 "github.com/envoyproxy/go-control-plane/envoy/service/secret/v3"
	statuspb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/sds"
	"github.com/lockstep-tls/lockstep/xds"
	"github.com/lockstep-tls/lockstep/xds/server"
)

// fleet is a control plane on a port: certificates and a ring by hand, and the rule that a first
// refusal bars a stream.
type fleet struct {
	table *sds.Table
	xds   *server.Server
	conn  *grpc.ClientConn

	mu     sync.Mutex
	down   error // what every look-up ends in, unless it is nil
	certs  map[keysource.Name]string
	ring   *keysource.Ring
	barred map[uint64]bool
}

func (f *fleet) Certificate(_ context.Context, n keysource.Name) (keysource.Certificate, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.down != nil {
		return keysource.Certificate{}, f.down
	}
	if what, ok := f.certs[n]; ok {
		return keysource.Certificate{PEM: keysource.PEM{Chain: []byte(what), Key: []byte("key")}}, nil
	}
	return keysource.Certificate{}, keysource.ErrNotExist
}

func (f *fleet) Ring(stream uint64, scope string) (*keysource.Ring, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if scope != "default" {
		return nil, false
	}
	if f.barred[stream] {
		return nil, true
	}
	return f.ring, false
}

func (f *fleet) observe(e xds.Event) {
	if _, ring := keysource.RingScope(e.Name); ring && e.Kind == xds.Refused {
		f.mu.Lock()
		f.barred[e.Node.Stream] = true
		f.mu.Unlock()
	}
}

func (f *fleet) set(n keysource.Name, what string) {
	f.mu.Lock()
	if what == "" {
		delete(f.certs, n)
	} else {
		f.certs[n] = what
	}
	f.mu.Unlock()
	f.table.Refresh([]keysource.Name{n})
}

func newFleet(t *testing.T) *fleet { return newFleetOf(t, server.Config{}, io.Discard) }

func newFleetOf(t *testing.T, c server.Config, logged io.Writer) *fleet {
	t.Helper()
	f := &fleet{
		certs: map[keysource.Name]string{}, barred: map[uint64]bool{},
		ring: &keysource.Ring{Generation: 7, Keys: []keysource.TicketKey{keysource.NewTicketKey()}},
	}
	log := slog.New(slog.NewTextHandler(logged, nil))
	f.table = sds.NewTable(sds.Config{Sources: keysource.Sources{f}, Rings: f, Log: log})
	c.Types, c.Observe, c.Log = map[string]xds.Resources{sds.TypeURL: f.table}, f.observe, log
	srv := server.New(c)
	f.xds = srv
	gs := grpc.NewServer(server.Options()...)
	srv.RegisterADS(gs)
	sds.Register(gs, srv)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = gs.Serve(l) })
	wg.Go(func() { _ = f.table.Run(ctx) })
	f.conn, err = grpc.NewClient(l.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		f.conn.Close()
		gs.Stop()
		cancel()
		wg.Wait()
	})
	return f
}

// delta is an incremental stream as a node sees it.
type delta struct {
	t      *testing.T
	stream interface {
		Send(*discoveryv3.DeltaDiscoveryRequest) error
		Recv() (*discoveryv3.DeltaDiscoveryResponse, error)
	}
	last *discoveryv3.DeltaDiscoveryResponse
}

func (f *fleet) delta(t *testing.T, svc xds.Service) *delta {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	t.Cleanup(cancel)
	d := &delta{t: t}
	var err error
	if svc == xds.ADS {
		d.stream, err = discoveryv3.NewAggregatedDiscoveryServiceClient(f.conn).DeltaAggregatedResources(ctx)
	} else {
		d.stream, err = secretv3.NewSecretDiscoveryServiceClient(f.conn).DeltaSecrets(ctx)
	}
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func (d *delta) send(q *discoveryv3.DeltaDiscoveryRequest) {
	d.t.Helper()
	q.TypeUrl, q.Node = sds.TypeURL, &corev3.Node{Id: "n1", UserAgentName: xds.EdgeAgent}
	if err := d.stream.Send(q); err != nil {
		d.t.Fatal(err)
	}
}

func (d *delta) ask(names ...string) {
	d.send(&discoveryv3.DeltaDiscoveryRequest{ResourceNamesSubscribe: names})
}

// answer acknowledges the last response, or refuses it with words.
func (d *delta) answer(words string) {
	q := &discoveryv3.DeltaDiscoveryRequest{ResponseNonce: d.last.GetNonce()}
	if words != "" {
		q.ErrorDetail = &statuspb.Status{Code: int32(codes.Internal), Message: words}
	}
	d.send(q)
}

// want receives until as many names were answered, and acknowledges each response but the last.
func (d *delta) want(want ...string) {
	d.t.Helper()
	var got []string
	for len(got) < len(want) {
		if len(got) > 0 {
			d.answer("")
		}
		r, err := d.stream.Recv()
		if err != nil {
			d.t.Fatalf("after %q: %v, want %q", got, err, want)
		}
		d.last = r
		for _, res := range r.Resources {
			got = append(got, res.Name)
		}
		for _, n := range r.RemovedResources {
			got = append(got, "-"+n)
		}
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		d.t.Fatalf("got %q, want %q", got, want)
	}
}

func TestSDSOverTheWire(t *testing.T) {
	f := newFleet(t)
	f.set("shop.example", "v1")
	d := f.delta(t, xds.SDS)
	// the unknown scope is never answered
	d.ask("tickets/other", "tickets/default", "SHOP.example", "none.example")
	d.want("tickets/default", "SHOP.example", "-none.example")
	d.answer("")
	f.set("none.example", "v1")
	d.want("none.example")
	d.answer("")
	f.set("none.example", "")
	d.want("-none.example")
	d.answer("")
	f.set("none.example", "v1") // the same as before: it is sent again
	d.want("none.example")
	d.answer("")
	f.mu.Lock()
	f.ring = &keysource.Ring{Generation: 8,
		Keys: append([]keysource.TicketKey{keysource.NewTicketKey()}, f.ring.Keys...)}
	f.mu.Unlock()
	f.table.RefreshRing("default", nil)
	d.want("tickets/default")
	if v := d.last.Resources[0].Version; v != f.ring.Version() {
		t.Errorf("version %s", v)
	}
	d.send(&discoveryv3.DeltaDiscoveryRequest{ResourceNamesUnsubscribe: []string{"tickets/default", "tickets/other",
		"SHOP.example", "none.example"}})
	for end := time.Now().Add(10 * time.Second); f.table.Watched() > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("names are kept that nobody wants")
		}
	}
}

// A client's SNI may be a ring's name: on ADS nobody has such a certificate, on SDS the stream
// that refused it is told so.
func TestARingIsNoCertificate(t *testing.T) {
	f := newFleet(t)
	f.set("shop.example", "v1")
	ads := f.delta(t, xds.ADS)
	ads.ask("tickets/default", "tickets/other")
	ads.want("-tickets/default", "-tickets/other")
	ads.answer("")
	ads.ask("shop.example")
	ads.want("shop.example")

	member, sni := f.delta(t, xds.SDS), f.delta(t, xds.SDS)
	member.ask("tickets/default")
	member.want("tickets/default")
	member.answer("")
	sni.ask("tickets/default")
	sni.want("tickets/default")
	sni.answer("Failed to load certificate chain")
	sni.want("-tickets/default")
	sni.answer("")
	f.mu.Lock()
	f.ring = &keysource.Ring{Generation: 8, Keys: f.ring.Keys}
	f.mu.Unlock()
	f.table.RefreshRing("default", nil)
	member.want("tickets/default")
}

func TestFetchSecrets(t *testing.T) {
	f := newFleet(t)
	f.set("shop.example", "v1")
	client := secretv3.NewSecretDiscoveryServiceClient(f.conn)
	for _, c := range []struct {
		names string
		code  codes.Code
		text  string
	}{
		{"shop.example", codes.OK, ""},
		{"none.example", codes.NotFound, `"none.example"`},
		{"shop.example none.example", codes.OK, ""},
		{"tickets/default", codes.InvalidArgument, "subscribe to it on a stream"},
		{"shop.example tickets/default", codes.InvalidArgument, `"tickets/default" is a ring`},
		{"tickets/other", codes.InvalidArgument, "is a ring"},
		{"", codes.InvalidArgument, "there is no wildcard"},
		{"*", codes.NotFound, ""},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		r, err := client.FetchSecrets(ctx,
			&discoveryv3.DiscoveryRequest{ResourceNames: strings.Fields(c.names), Node: &corev3.Node{Id: "n1"}})
		cancel()
		if status.Code(err) != c.code || c.text != "" && !strings.Contains(fmt.Sprint(err), c.text) {
			t.Errorf("%q: %v", c.names, err)
		}
		if err == nil && (len(r.Resources) != 1 || r.Resources[0].TypeUrl != sds.TypeURL) {
			t.Errorf("%q: %d resources", c.names, len(r.Resources))
		}
	}
	if f.table.Watched() != 0 {
		t.Error("something is still watched")
	}
}

func TestStateOfTheWorldSecrets(t *testing.T) {
	f := newFleet(t)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	s, err := secretv3.NewSecretDiscoveryServiceClient(f.conn).StreamSecrets(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Send(&discoveryv3.DiscoveryRequest{ResourceNames: []string{"tickets/default"},
		Node: &corev3.Node{Id: "n1"}}); err != nil {
		t.Fatal(err)
	}
	r, err := s.Recv()
	if err != nil || len(r.Resources) != 1 || r.TypeUrl != sds.TypeURL || r.VersionInfo != f.ring.Version()+".2?" {
		t.Fatalf("version %q, %v", r.GetVersionInfo(), err)
	}
}
