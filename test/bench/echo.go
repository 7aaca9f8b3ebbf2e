package main

import (
	"fmt"
	"net"

	"google.golang.org/grpc"
	"google.golang.org/grpc/mem"

	"github.com/lockstep-tls/lockstep/test/fleet"
)

// serveEcho is the role echo: a gRPC server of default options that sends every message of a stream back, and so shows what a stream costs
// when the server does nothing.
func serveEcho(arg string) error {
	var addr string
	if err := roleConfig(arg, &addr); err != nil {
		return err
	}
	gs := grpc.NewServer(grpc.ForceServerCodecV2(raw{}), grpc.UnknownServiceHandler(func(_ any, stream grpc.ServerStream) error {
		for {
			var m []byte
			if err := stream.RecvMsg(&m); err != nil {
				return err
			}
			if err := stream.SendMsg(&m); err != nil {
				return err
			}
		}
	}))
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	return gs.Serve(l)
}

// raw leaves messages as they are.
type raw struct{}

func (raw) Name() string { return "raw" }

func (raw) Marshal(v any) (mem.BufferSlice, error) {
	b, ok := v.(*[]byte)
	if !ok {
		return nil, fmt.Errorf("raw: a message of type %T", v)
	}
	return mem.BufferSlice{mem.SliceBuffer(*b)}, nil
}

func (raw) Unmarshal(data mem.BufferSlice, v any) error {
	b, ok := v.(*[]byte)
	if !ok {
		return fmt.Errorf("raw: a message of type %T", v)
	}
	*b = data.Materialize()
	return nil
}

// echo starts one and returns its address.
func (b *bench) echo() (string, error) {
	addr, err := fleet.Addr()
	if err != nil {
		return "", err
	}
	if _, err := b.role("echo", addr, ""); err != nil {
		return "", err
	}
	return addr, awaitPort(addr)
}
