package abuse

import (
	"bytes"
	"context"
	"encoding/binary"
	"net"
	"strings"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	secretv3 "github.com/envoyproxy/go-control-plane/envoy/service/secret/v3"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/protobuf/proto"

	"github.com/lockstep-tls/lockstep/sds"
)

// slowReader subscribes to the ring over HTTP/2 written by hand, and reads what comes back at a
// byte a second.
func (s *stage) slowReader(ctx context.Context) (stop func()) {
	s.t.Helper()
	conn, err := net.Dial("unix", strings.TrimPrefix(s.plane.XDS, "unix:"))
	if err != nil {
		s.t.Fatal(err)
	}
	msg, err := proto.Marshal(&discoveryv3.DeltaDiscoveryRequest{
		Node: &corev3.Node{Id: "slow"}, TypeUrl: sds.TypeURL, ResourceNamesSubscribe: []string{ring},
	})
	if err != nil {
		s.t.Fatal(err)
	}
	var block bytes.Buffer
	enc := hpack.NewEncoder(&block)
	for _, h := range [][2]string{
		{":method", "POST"}, {":scheme", "http"},
		{":path", secretv3.SecretDiscoveryService_DeltaSecrets_FullMethodName}, {":authority", "localhost"},
		{"content-type", "application/grpc"}, {"te", "trailers"},
	} {
		if err := enc.WriteField(hpack.HeaderField{Name: h[0], Value: h[1]}); err != nil {
			s.t.Fatal(err)
		}
	}
	var out bytes.Buffer
	out.WriteString(http2.ClientPreface)
	f := http2.NewFramer(&out, nil)
	check := func(err error) {
		if err != nil {
			s.t.Fatal(err)
		}
	}
	check(f.WriteSettings())
	check(f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block.Bytes(), EndHeaders: true}))
	check(f.WriteData(1, false, append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(msg))), msg...)))
	if _, err := conn.Write(out.Bytes()); err != nil {
		s.t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		one := make([]byte, 1)
		for ctx.Err() == nil {
			if _, err := conn.Read(one); err != nil {
				return
			}
			select {
			case <-ctx.Done():
			case <-time.After(time.Second):
			}
		}
	}()
	return func() { conn.Close(); <-done }
}
