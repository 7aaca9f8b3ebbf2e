package server

import (
	"testing"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"

	"github.com/lockstep-tls/lockstep/xds"
)

// BenchmarkPushUntilACK is what a change of one secret costs a stream: look-up, response, event,
// ACK, event.
func BenchmarkPushUntilACK(b *testing.B) {
	r := newRig(b, false, defaults)
	r.m.env.observe = func(xds.Event) {}
	versions := [2]*xds.Resource{thing("a", "1", 4000), thing("a", "2", 4000)}
	r.src.put(versions[0], "a")
	r.delta(req{sub: []string{"a"}})
	ack := &discoveryv3.DeltaDiscoveryRequest{TypeUrl: testType}
	for i := 1; b.Loop(); i++ {
		ack.ResponseNonce = r.m.out.recs[len(r.m.out.recs)-1].nonce
		if _, err := r.m.delta(ack, r.now); err != nil {
			b.Fatal(err)
		}
		r.now = r.now.Add(time.Millisecond)
		r.src.known["a"] = versions[i%2]
		if out := r.m.changed([]string{"a"}, r.now); len(out) != 1 {
			b.Fatal("no response")
		}
	}
}
