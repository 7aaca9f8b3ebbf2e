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
// A connection is known by its address in memory until its handshake. It is not wrapped before
// that, since gRPC sets TCP_USER_TIMEOUT only on a bare TCP connection.
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
	return orderedConn{conn, number.(uint64)}, info, nil
}

// Clone implements [credentials.TransportCredentials].
func (c orderedCredentials) Clone() credentials.TransportCredentials {
	return orderedCredentials{c.TransportCredentials.Clone(), c.order}
}

type orderedConn struct {
	net.Conn
	number uint64
}

// RemoteAddr implements [net.Conn]. It is the only thing that gRPC tells a stream of its
// connection.
func (c orderedConn) RemoteAddr() net.Addr { return orderedAddr{c.Conn.RemoteAddr(), c.number} }

type orderedAddr struct {
	net.Addr
	number uint64
}

// connOf returns the number of a stream's connection, or 0 if it has none.
func connOf(ctx context.Context) uint64 {
	if p, ok := peer.FromContext(ctx); ok {
		if a, ok := p.Addr.(orderedAddr); ok {
			return a.number
		}
	}
	return 0
}
