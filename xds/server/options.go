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
	// window is static, since grpc's bandwidth estimator would answer each small ACK with a PING.
	window = 1 << 20
	// readBuffer is small, since a fleet that acknowledges at once uses as many buffers as it has
	// nodes. An ACK has some hundred bytes.
	readBuffer = 4 << 10
	// maxRequest bounds one request. A node that reconnects lists in one request all that it holds
	// (limits.wire), and what it says of itself. The request also has the names that clients asked
	// for while no server could answer.
	maxRequest = 64 << 20
	maxHeaders = 32 << 10
	// maxStreams is for one connection. Envoy without ADS opens a stream for each secret, and its
	// own circuit breaker has the same limit.
	maxStreams = 1024
)

// Options returns the options that the gRPC server of a [Server] must be made with. Others, such
// as credentials and interceptors, may be added.
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
		// Nodes ping every few seconds, to notice a lost server. By default grpc would cut them
		// off for that.
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: time.Second, PermitWithoutStream: true}),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: 10 * time.Second, Timeout: 5 * time.Second}),
	}
}

// codec sends a response as the bytes that it holds, and decodes the requests of streams by hand.
// It takes all other messages as protobuf.
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
	defer buf.Free() // the decoders have copied every string that they keep
	return decode(buf.ReadOnlyData())
}
