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
			r := &Resource{Name: "shop.example", Version: "v1", Body: body}
			full := &discoveryv3.Resource{Name: r.Name, Version: r.Version, Resource: body}
			if ttl > 0 {
				full.Ttl = durationpb.New(ttl)
			}

			var delta discoveryv3.DeltaDiscoveryResponse
			decode(t, func() ([]byte, []byte) { return r.Delta(ttl) }, &delta)
			if want := (&discoveryv3.DeltaDiscoveryResponse{
				Resources: []*discoveryv3.Resource{full},
			}); !proto.Equal(&delta, want) {
				t.Errorf("ttl %v, %d bytes: delta: got %v", ttl, size, &delta)
			}

			var sotw discoveryv3.DiscoveryResponse
			decode(t, r.SotW, &sotw)
			if want := (&discoveryv3.DiscoveryResponse{Resources: []*anypb.Any{body}}); !proto.Equal(&sotw, want) {
				t.Errorf("%d bytes: sotw: got %v", size, &sotw)
			}
		}
	}
}

func TestEncodedOnceForManyAndNotKeptForOne(t *testing.T) {
	r := &Resource{Name: "a", Version: "1", Body: &anypb.Any{Value: []byte("x")}}
	first, _ := r.Delta(0)
	h1, b1 := r.Delta(0)
	if &first[0] == &h1[0] {
		t.Error("the first stream's bytes were kept")
	}
	h2, b2 := r.Delta(0)
	_, b3 := r.Delta(time.Minute)
	if &h1[0] != &h2[0] || &b1[0] != &b2[0] || &b1[0] != &r.Body.Value[0] || &b3[0] != &b1[0] {
		t.Error("the bytes were encoded or copied again")
	}
}

func TestTTLIsBelowWhatIsLeft(t *testing.T) {
	now := time.Unix(1_000_000, 123_456_789)
	if got := (&Resource{}).TTL(now); got != 0 {
		t.Errorf("without an end: %s", got)
	}
	for left, want := range map[time.Duration]time.Duration{
		90 * 24 * time.Hour:     90*24*time.Hour - time.Second,
		time.Minute + 1:         59 * time.Second,
		5 * time.Second:         4 * time.Second,
		time.Second:             500 * time.Millisecond,
		10 * time.Microsecond:   time.Millisecond, // the least that Envoy's timers know
		0:                       time.Minute,
		-365 * 24 * time.Hour:   time.Minute,
		1500 * time.Microsecond: time.Millisecond,
	} {
		if got := (&Resource{Until: now.Add(left)}).TTL(now); got != want {
			t.Errorf("%s left: %s, want %s", left, got, want)
		}
	}
}

func decode(t *testing.T, parts func() (head, body []byte), into proto.Message) {
	t.Helper()
	head, body := parts()
	if err := proto.Unmarshal(append(append([]byte(nil), head...), body...), into); err != nil {
		t.Fatal(err)
	}
}
