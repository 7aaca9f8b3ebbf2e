package daemon

import (
	"fmt"
	"slices"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/lockstep-tls/lockstep/cmd/internal/api"
	"github.com/lockstep-tls/lockstep/cmd/internal/config"
	"github.com/lockstep-tls/lockstep/sds"
	"github.com/lockstep-tls/lockstep/xds"
)

// asks has a node ask for names on ADS, and waits for all answers; it stays connected.
func asks(t *testing.T, r *running, node string, names ...string) {
	t.Helper()
	conn, err := grpc.NewClient(r.xdsListener.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	stream, err := discoveryv3.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(&discoveryv3.DeltaDiscoveryRequest{
		Node: &corev3.Node{Id: node, UserAgentName: xds.EdgeAgent}, TypeUrl: sds.TypeURL, ResourceNamesSubscribe: names,
	}); err != nil {
		t.Fatal(err)
	}
	for got := 0; got < len(names); {
		resp, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		got += len(resp.Resources) + len(resp.RemovedResources)
	}
}

// Explain says which nodes a name is kept from just now, and by what, although it has a
// certificate; and that an absence is remembered.
func TestExplainSaysWhichDoorsAreShut(t *testing.T) {
	r, s := start(t, func(c *config.Config) { c.WildcardNames = 2 }), newShop(t)
	if _, err := r.client.ImportCerts(t.Context(), tarOf(t, s.pair("shop.example", 0, "shop.example"),
		s.pair("_.wild.example", 0, "*.wild.example"))); err != nil {
		t.Fatal(err)
	}
	const nodes = 25
	for i := range nodes {
		asks(t, r, fmt.Sprintf("edge-%02d", i), "SHOP.example", "a.wild.example", "b.wild.example", "none.example")
	}
	for name, want := range map[string]struct{ door, asked string }{
		"shop.example": {}, "SHOP.example": {}, "Shop.example": {"spelling", "Shop.example"}, "a.wild.example": {},
		"c.wild.example": {"wildcard", "c.wild.example"}, "none.example": {},
	} {
		e, err := r.client.Explain(t.Context(), api.ExplainQuery{Name: name})
		if err != nil {
			t.Fatal(err)
		}
		if want.door == "" {
			if len(e.Doors) != 0 {
				t.Errorf("%s: %+v", name, e.Doors)
			}
			continue
		}
		if len(e.Doors) != 20 || e.MoreDoors != nodes-20 || slices.ContainsFunc(e.Doors, func(d api.Door) bool {
			return d.Why != want.door || d.Asked != want.asked || d.Words == ""
		}) {
			t.Errorf("%s: %d more, %+v", name, e.MoreDoors, e.Doors)
		}
	}
	e, err := r.client.Explain(t.Context(), api.ExplainQuery{Name: "none.example"})
	if err != nil || len(e.Remembered) != 1 || time.Until(e.Remembered[0].Until) <= 0 {
		t.Errorf("%+v %v", e.Remembered, err)
	}
}
