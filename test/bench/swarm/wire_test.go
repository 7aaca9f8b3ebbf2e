package swarm

import (
	"encoding/binary"
	"slices"
	"testing"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

func TestARequestIsWhatProtobufReads(t *testing.T) {
	b := request([]byte("before"), "node-1", "nonce-1", "a.example", "b.example")[len("before"):]
	if b[0] != 0 || int(binary.BigEndian.Uint32(b[1:])) != len(b)-messageHeader {
		t.Fatalf("the header of the message is % x, for %d bytes", b[:messageHeader], len(b)-messageHeader)
	}
	var req discoveryv3.DeltaDiscoveryRequest
	if err := proto.Unmarshal(b[messageHeader:], &req); err != nil {
		t.Fatal(err)
	}
	if req.GetNode().GetId() != "node-1" || req.GetTypeUrl() != secretType || req.GetResponseNonce() != "nonce-1" ||
		!slices.Equal(req.GetResourceNamesSubscribe(), []string{"a.example", "b.example"}) ||
		req.GetErrorDetail() != nil {
		t.Fatalf("read as %v", &req)
	}
}

func TestAResponseIsReadAsProtobufWritesIt(t *testing.T) {
	b, err := proto.Marshal(&discoveryv3.DeltaDiscoveryResponse{
		SystemVersionInfo: "7",
		Resources: []*discoveryv3.Resource{
			{Name: "a.example", Version: "1", Resource: &anypb.Any{TypeUrl: secretType, Value: []byte("secret")}},
			{Name: "tickets/default", Version: "1"},
		},
		RemovedResources: []string{"gone.example"},
		Nonce:            "n1",
	})
	if err != nil {
		t.Fatal(err)
	}
	for look, found := range map[string]bool{
		"tickets/default": true, "gone.example": true, "secret": false, "": false,
	} {
		r, err := parse(b, look)
		if want := (response{nonce: "n1", resources: 2, removed: 1, found: found}); err != nil || r != want {
			t.Errorf("looking for %q: %+v, %v, want %+v", look, r, err, want)
		}
	}
	for cut := range b {
		var m discoveryv3.DeltaDiscoveryResponse
		good := proto.Unmarshal(b[:cut], &m) == nil && m.GetNonce() != ""
		if _, err := parse(b[:cut], "x"); (err == nil) != good {
			t.Errorf("the first %d of %d bytes: %v, and protobuf says %v", cut, len(b), err, good)
		}
	}
}

func TestMessagesAreFoundHoweverTheyAreCut(t *testing.T) {
	stream := slices.Concat(request(nil, "n", "", "a"), request(nil, "", "1"), request(nil, "", "2", "b", "c"))
	for size := 1; size <= len(stream); size++ {
		var c conn
		var got []byte
		for piece := range slices.Chunk(stream, size) {
			if err := c.messages(piece, func(m []byte) error {
				got = append(binary.BigEndian.AppendUint32(append(got, 0), uint32(len(m))), m...)
				return nil
			}); err != nil {
				t.Fatal(err)
			}
		}
		if !slices.Equal(got, stream) {
			t.Fatalf("in pieces of %d bytes the messages come out as % x", size, got)
		}
	}
}
