package server

import (
	"context"
	"net"
	"sync"
	"sync/atomic"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
)

// Ordered numbers the connections of a listener in the order in which they are accepted, for
// [xds.Node.Conn]. gRPC serves each connection in its own goroutine, so after a pause the streams
// of several connections begin in any order. The gRPC server must use both returned values.
//
// A connection is never wrapped. gRPC sets TCP_USER_TIMEOUT only on a bare TCP connection. Without
// TLS it keeps no read buffer for a bare one that is idle. A connection is known by its address in
// memory until its handshake. After that it is known by the [credentials.AuthInfo] of its streams,
// which has a method Unwrap.
func Ordered(l net.Listener, creds credentials.TransportCredentials) (net.Listener, credentials.TransportCredentials) {
	o := &order{}
	return orderedListener{l, o}, orderedCredentials{creds, o}
}

type order struct {
	last    atomic.Uint64
	waiting sync.Map // net.Conn before its handshake → its number
}

type orderedListener struct {
	net.Listener
	order *order
}

// Accept implements [net.Listener].
func (l orderedListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err == nil {
		l.order.waiting.Store(conn, l.order.last.Add(1))
	}
	return conn, err
}

type orderedCredentials struct {
	credentials.TransportCredentials
	order *order
}

// ServerHandshake implements [credentials.TransportCredentials].
func (c orderedCredentials) ServerHandshake(raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	number, known := c.order.waiting.LoadAndDelete(raw)
	conn, info, err := c.TransportCredentials.ServerHandshake(raw)
	if err != nil || !known {
		return conn, info, err
	}
	return conn, orderedInfo{info, number.(uint64)}, nil
}

// Clone implements [credentials.TransportCredentials].
func (c orderedCredentials) Clone() credentials.TransportCredentials {
	return orderedCredentials{c.TransportCredentials.Clone(), c.order}
}

// orderedInfo is what the inner credentials found out, with the number of the connection.
type orderedInfo struct {
	credentials.AuthInfo
	number uint64
}

// Unwrap returns what the inner credentials found out.
func (i orderedInfo) Unwrap() credentials.AuthInfo { return i.AuthInfo }

// connOf returns the number of a stream's connection, or 0 if it has none.
func connOf(ctx context.Context) uint64 {
	if p, ok := peer.FromContext(ctx); ok {
		if i, ok := p.AuthInfo.(orderedInfo); ok {
			return i.number
		}
	}
	return 0
}
