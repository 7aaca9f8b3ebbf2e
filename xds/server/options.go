package server

import (
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/mem"
)

const (
	window     = 1 << 20 // static: grpc's bandwidth estimator would answer each small ACK with a PING
	readBuffer = 4 << 10 // a fleet that acknowledges at once has as many in use as it has nodes, and an ACK is some hundred bytes
	// maxRequest: a node that comes back lists all that it holds in one request (limits.wire), along with what it says of itself, and with what clients asked it for
	// while no server was there to say that it is absent.
	maxRequest = 64 << 20
	maxHeaders = 32 << 10
	maxStreams = 1024 // on one connection; Envoy without ADS opens one for each secret, and its own breaker stands at 1024
)

// Options are those that the gRPC server of a [Server] must be made with. Others (credentials, interceptors) may be added.
func Options() []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.ForceServerCodecV2(codec{encoding.GetCodecV2(proto.Name)}),
		grpc.InTapHandle(cancellable),
		grpc.StaticStreamWindowSize(window),
		grpc.StaticConnWindowSize(window),
		grpc.ReadBufferSize(readBuffer),
		grpc.MaxRecvMsgSize(maxRequest),
		grpc.MaxHeaderListSize(maxHeaders),
		grpc.MaxConcurrentStreams(maxStreams),
		// Nodes ping every few seconds to notice a server that is gone; grpc's default enforcement would cut them off.
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: time.Second, PermitWithoutStream: true}),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: 10 * time.Second, Timeout: 5 * time.Second}),
	}
}

// codec sends a response as the bytes that it holds, reads the requests of streams by hand, and takes all other messages as protobuf.
type codec struct{ encoding.CodecV2 }

// Marshal implements [encoding.CodecV2].
func (c codec) Marshal(v any) (mem.BufferSlice, error) {
	if r, ok := v.(*response); ok {
		return r.parts, nil
	}
	return c.CodecV2.Marshal(v)
}

// Unmarshal implements [encoding.CodecV2].
func (c codec) Unmarshal(data mem.BufferSlice, v any) error {
	var decode func([]byte) error
	switch r := v.(type) {
	case *discoveryv3.DeltaDiscoveryRequest:
		decode = func(b []byte) error { return decodeDelta(b, r) }
	case *discoveryv3.DiscoveryRequest:
		decode = func(b []byte) error { return decodeSotW(b, r) }
	default:
		return c.CodecV2.Unmarshal(data, v)
	}
	buf := data.MaterializeToBuffer(mem.DefaultBufferPool())
	defer buf.Free() // every string that is kept was copied
	return decode(buf.ReadOnlyData())
}
