package server

import (
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	statusv3 "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
)

// kept is what a request is after what nobody reads was taken away.
func keptDelta(r *discoveryv3.DeltaDiscoveryRequest) *discoveryv3.DeltaDiscoveryRequest {
	return &discoveryv3.DeltaDiscoveryRequest{
		Node: keptNode(r.Node), TypeUrl: r.TypeUrl, ResourceNamesSubscribe: r.ResourceNamesSubscribe,
		ResourceNamesUnsubscribe: r.ResourceNamesUnsubscribe,
		InitialResourceVersions:  r.InitialResourceVersions, ResponseNonce: r.ResponseNonce,
		ErrorDetail: keptStatus(r.ErrorDetail),
	}
}

func keptSotW(r *discoveryv3.DiscoveryRequest) *discoveryv3.DiscoveryRequest {
	return &discoveryv3.DiscoveryRequest{
		VersionInfo: r.VersionInfo, Node: keptNode(r.Node), ResourceNames: r.ResourceNames, TypeUrl: r.TypeUrl,
		ResponseNonce: r.ResponseNonce,
		ErrorDetail:   keptStatus(r.ErrorDetail),
	}
}

func keptNode(n *corev3.Node) *corev3.Node {
	if n == nil {
		return nil
	}
	kept := &corev3.Node{Id: n.Id, Cluster: n.Cluster, UserAgentName: n.UserAgentName}
	if v, ok := n.UserAgentVersionType.(*corev3.Node_UserAgentVersion); ok {
		kept.UserAgentVersionType = v
	}
	return kept
}

func keptStatus(s *statusv3.Status) *statusv3.Status {
	if s == nil {
		return nil
	}
	return &statusv3.Status{Message: s.Message}
}

func FuzzDecode(f *testing.F) {
	meta, err := structpb.NewStruct(map[string]any{"a": []any{1, "two", map[string]any{"three": true}}})
	if err != nil {
		f.Fatal(err)
	}
	node := &corev3.Node{Id: "n", Cluster: "c", UserAgentName: "envoy", Metadata: meta}
	for _, m := range []proto.Message{
		&discoveryv3.DeltaDiscoveryRequest{
			Node: node, TypeUrl: "t", ResourceNamesSubscribe: []string{"a", "b"},
			ResourceNamesUnsubscribe: []string{"c"},
			InitialResourceVersions:  map[string]string{"a": "1"}, ResponseNonce: "x",
			ErrorDetail: &statusv3.Status{Code: 3, Message: "no"},
		},
		&discoveryv3.DiscoveryRequest{Node: node, VersionInfo: "v", ResourceNames: []string{"a", "b"}, TypeUrl: "t",
			ResponseNonce: "x", ErrorDetail: &statusv3.Status{Message: "no"}},
	} {
		b, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var want, got discoveryv3.DeltaDiscoveryRequest
		if proto.Unmarshal(b, &want) == nil {
			if err := decodeDelta(b, &got); err != nil {
				t.Fatalf("a good request is refused: %v", err)
			}
			if singular(&want) && !proto.Equal(keptDelta(&want), &got) {
				t.Fatalf("%v\nwas read as\n%v", &want, &got)
			}
		} else {
			_ = decodeDelta(b, &got) // must not panic
		}
		var wantS, gotS discoveryv3.DiscoveryRequest
		if proto.Unmarshal(b, &wantS) == nil {
			if err := decodeSotW(b, &gotS); err != nil {
				t.Fatalf("a good request is refused: %v", err)
			}
			if wantS.Node == nil && wantS.ErrorDetail == nil && !proto.Equal(keptSotW(&wantS), &gotS) {
				t.Fatalf("%v\nwas read as\n%v", &wantS, &gotS)
			}
		} else {
			_ = decodeSotW(b, &gotS)
		}
	})
}

// singular: a message field that comes twice is merged by protobuf and replaced here; no client
// writes one twice.
func singular(r *discoveryv3.DeltaDiscoveryRequest) bool {
	return r.Node == nil && r.ErrorDetail == nil
}

func TestDecodeKeepsWhatIsReadAndDropsTheRest(t *testing.T) {
	meta, err := structpb.NewStruct(map[string]any{"big": make([]any, 100)})
	if err != nil {
		t.Fatal(err)
	}
	in := &discoveryv3.DeltaDiscoveryRequest{
		Node: &corev3.Node{Id: "n", Cluster: "c", UserAgentName: "envoy", Metadata: meta,
			UserAgentVersionType: &corev3.Node_UserAgentVersion{UserAgentVersion: "(devel)"},
			Locality:             &corev3.Locality{Region: "r"}}, TypeUrl: "t",
		ResourceNamesSubscribe: []string{"a", "b"}, ResourceNamesUnsubscribe: []string{"c"},
		InitialResourceVersions: map[string]string{"a": "1", "b": ""},
		ResponseNonce:           "x", ErrorDetail: &statusv3.Status{Code: 3, Message: "no"},
	}
	b, err := proto.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	var got discoveryv3.DeltaDiscoveryRequest
	if err := decodeDelta(b, &got); err != nil || !proto.Equal(&got, keptDelta(in)) {
		t.Fatalf("%v %v", &got, err)
	}
	if got.Node.Metadata != nil || got.Node.Locality != nil {
		t.Fatal("metadata was decoded")
	}
	for i := range b {
		var cut discoveryv3.DeltaDiscoveryRequest
		_ = decodeDelta(b[:i], &cut) // must not panic
	}
}
