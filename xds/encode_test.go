package xds

import (
	"testing"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
)

func TestEncodedBytesAreWhatTheGeneratedCodeWouldSend(t *testing.T) {
	const typeURL = "type.googleapis.com/some.Type"
	for _, ttl := range []time.Duration{0, time.Second, 90*time.Minute + 5*time.Millisecond} {
		for _, size := range []int{0, 1, 127, 128, 20_000} {
			body := &anypb.Any{TypeUrl: typeURL, Value: make([]byte, size)}
			r := &Resource{Name: "shop.example", Version: "v1", Body: body, TTL: ttl}
			full := &discoveryv3.Resource{Name: r.Name, Version: r.Version, Resource: body}
			if ttl > 0 {
				full.Ttl = durationpb.New(ttl)
			}

			var delta discoveryv3.DeltaDiscoveryResponse
			decode(t, r.Delta, &delta)
			if want := (&discoveryv3.DeltaDiscoveryResponse{Resources: []*discoveryv3.Resource{full}}); !proto.Equal(&delta, want) {
				t.Errorf("ttl %v, %d bytes: delta: got %v", ttl, size, &delta)
			}

			plain := body
			if ttl > 0 {
				var err error
				if plain, err = anypb.New(full); err != nil {
					t.Fatal(err)
				}
			}
			var sotw, want discoveryv3.DiscoveryResponse
			decode(t, r.SotW, &sotw)
			want.Resources = []*anypb.Any{plain}
			if ttl == 0 {
				if !proto.Equal(&sotw, &want) {
					t.Errorf("%d bytes: sotw: got %v", size, &sotw)
				}
				continue
			}
			var inner discoveryv3.Resource // the fields of the wrapped message may stand in any order
			if err := sotw.Resources[0].UnmarshalTo(&inner); err != nil || !proto.Equal(&inner, full) {
				t.Errorf("ttl %v, %d bytes: sotw: got %v, %v", ttl, size, &inner, err)
			}
		}
	}
}

func TestEncodedOnce(t *testing.T) {
	r := &Resource{Name: "a", Version: "1", Body: &anypb.Any{Value: []byte("x")}}
	h1, b1 := r.Delta()
	h2, b2 := r.Delta()
	if &h1[0] != &h2[0] || &b1[0] != &b2[0] || &b1[0] != &r.Body.Value[0] {
		t.Error("the bytes were encoded or copied again")
	}
}

func decode(t *testing.T, parts func() (head, body []byte), into proto.Message) {
	t.Helper()
	head, body := parts()
	if err := proto.Unmarshal(append(append([]byte(nil), head...), body...), into); err != nil {
		t.Fatal(err)
	}
}
