package transport

import (
	"errors"
	"net"
	"sync/atomic"
	"syscall"

	"google.golang.org/grpc/credentials"
)

// errTLS says that a peer began a TLS handshake where plaintext is spoken.
var errTLS = errors.New("the first byte is that of a TLS handshake")

// handshake is the first byte of TLS (RFC 8446, section 5.1). Nothing else here begins with it.
const handshake = 0x16

// Plaintext returns c, the credentials of a listener that speaks plaintext. A peer that speaks TLS
// there is refused, and is taken by f as a failure of that listener.
func (f *Failures) Plaintext(listener string, c credentials.TransportCredentials) credentials.TransportCredentials {
	f.of(listener)
	return plainCredentials{c, listener, f}
}

type plainCredentials struct {
	credentials.TransportCredentials
	listener string
	failures *Failures
}

// ServerHandshake implements [credentials.TransportCredentials]. It waits for the first byte, which
// gRPC bounds. The connection is not wrapped, since gRPC treats a bare one better.
func (c plainCredentials) ServerHandshake(raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	if first, ok := peek(raw); ok && first == handshake {
		c.failures.add(c.listener, address(raw), "", errTLS)
		return nil, nil, errTLS
	}
	return c.TransportCredentials.ServerHandshake(raw)
}

// Clone implements [credentials.TransportCredentials].
func (c plainCredentials) Clone() credentials.TransportCredentials {
	return plainCredentials{c.TransportCredentials.Clone(), c.listener, c.failures}
}

// peek returns the first byte of a connection, and leaves it there. It waits for it.
func peek(conn net.Conn) (first byte, ok bool) {
	s, is := conn.(syscall.Conn)
	if !is {
		return 0, false
	}
	raw, err := s.SyscallConn()
	if err != nil {
		return 0, false
	}
	var b [1]byte
	err = raw.Read(func(fd uintptr) bool {
		for {
			n, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK)
			switch {
			case errors.Is(err, syscall.EINTR):
				continue
			case errors.Is(err, syscall.EAGAIN):
				return false
			}
			ok = err == nil && n == 1
			return true
		}
	})
	return b[0], ok && err == nil
}

// Listener returns l, which speaks plaintext HTTP. A peer that speaks TLS there is taken by f as a
// failure of that listener.
func (f *Failures) Listener(listener string, l net.Listener) net.Listener {
	f.of(listener)
	return plainListener{l, listener, f}
}

type plainListener struct {
	net.Listener
	listener string
	failures *Failures
}

// Accept implements [net.Listener].
func (l plainListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &plainConn{Conn: conn, of: l}, nil
}

type plainConn struct {
	net.Conn
	of    plainListener
	begun atomic.Bool
}

// Read implements [net.Conn].
func (c *plainConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if n > 0 && !c.begun.Swap(true) && b[0] == handshake {
		c.of.failures.add(c.of.listener, address(c), "", errTLS)
		return 0, errTLS
	}
	return n, err
}

// address says where a peer is. That of a unix socket has no name.
func address(conn net.Conn) string {
	if at := conn.RemoteAddr().String(); at != "" && at != "@" {
		return at
	}
	return "a process of this machine, at " + conn.LocalAddr().String()
}
