package server

import (
	"strings"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
)

func TestOfANodesMetadataOneFieldIsRead(t *testing.T) {
	own := func(v any) map[string]any {
		return map[string]any{"a": strings.Repeat("x", 1000), "lockstep": v, "z": []any{1, 2}}
	}
	for name, c := range map[string]struct {
		meta  map[string]any
		port  uint16
		eager bool
	}{
		"both":                  {own(map[string]any{"port": 8443, "eager": true, "more": "y"}), 8443, true},
		"the port alone":        {own(map[string]any{"port": 443}), 443, false},
		"none":                  {map[string]any{"port": 8443, "eager": true}, 0, false},
		"not a struct":          {own("port: 8443"), 0, false},
		"words":                 {own(map[string]any{"port": "8443", "eager": "true"}), 0, false},
		"no port":               {own(map[string]any{"port": 0}), 0, false},
		"too high":              {own(map[string]any{"port": 65536}), 0, false},
		"half a port":           {own(map[string]any{"port": 8443.5}), 0, false},
		"below":                 {own(map[string]any{"port": -1}), 0, false},
		"somebody else's field": {map[string]any{"istio": map[string]any{"port": 1, "eager": true}}, 0, false},
	} {
		meta, err := structpb.NewStruct(c.meta)
		if err != nil {
			t.Fatal(err)
		}
		b, err := proto.Marshal(&discoveryv3.DeltaDiscoveryRequest{Node: &corev3.Node{Id: "n1", Metadata: meta},
			TypeUrl: testType})
		if err != nil {
			t.Fatal(err)
		}
		var q discoveryv3.DeltaDiscoveryRequest
		if err := decodeDelta(b, &q); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if size := proto.Size(q.Node.Metadata); size > 100 {
			t.Errorf("%s: %d bytes of metadata were kept", name, size)
		}
		r := newRig(t, false, defaults)
		if _, err := r.m.delta(&q, r.now); err != nil {
			t.Fatal(err)
		}
		if n := r.m.node; n.Port != c.port || n.Eager != c.eager {
			t.Errorf("%s: port %d, eager %v", name, n.Port, n.Eager)
		}
		for i := range b {
			var cut discoveryv3.DeltaDiscoveryRequest
			_ = decodeDelta(b[:i], &cut) // must not panic
		}
	}
}
