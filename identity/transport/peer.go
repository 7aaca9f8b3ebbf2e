package transport

import (
	"context"
	"fmt"
	"net"
	"syscall"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/peer"

	"github.com/lockstep-tls/lockstep/identity"
)

// Identity returns who the peer of a stream proved to be. It is empty on plaintext TCP. The leaf
// of a TLS connection can be believed, since [MTLS] lets in only certificates that it has
// verified.
func Identity(ctx context.Context) string {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return ""
	}
	switch info := unwrap(p.AuthInfo).(type) {
	case socketPeer:
		return info.identity
	case credentials.TLSInfo:
		if len(info.State.PeerCertificates) > 0 {
			return identity.FromCertificate(info.State.PeerCertificates[0])
		}
	}
	return ""
}

// OnSocket reports whether the peer of a stream came over a unix socket. It reports also whether
// the peer is known to have this process's network, so that both mean the same by 127.0.0.1.
func OnSocket(ctx context.Context) (socket, sameNetwork bool) {
	if p, ok := peer.FromContext(ctx); ok {
		if s, ok := unwrap(p.AuthInfo).(socketPeer); ok {
			return true, s.local
		}
	}
	return false, false
}

// unwrap returns what the credentials found out, without the number of the connection.
func unwrap(info credentials.AuthInfo) credentials.AuthInfo {
	if ordered, ok := info.(interface{ Unwrap() credentials.AuthInfo }); ok { // see server.Ordered
		return ordered.Unwrap()
	}
	return info
}

// socketCredentials ask the kernel who connects to a unix socket. They leave the connection in
// plaintext.
type socketCredentials struct {
	credentials.TransportCredentials
}

// SocketCredentials returns the credentials of a listener on a unix socket.
func SocketCredentials() credentials.TransportCredentials {
	return socketCredentials{insecure.NewCredentials()}
}

// socketPeer is who connected.
type socketPeer struct {
	credentials.CommonAuthInfo
	identity string
	local    bool // local reports whether its loopback addresses are this process's own.
}

// AuthType implements [credentials.AuthInfo].
func (socketPeer) AuthType() string { return "unix" }

// ServerHandshake implements [credentials.TransportCredentials].
func (socketCredentials) ServerHandshake(conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	c, ok := conn.(syscall.Conn)
	if !ok {
		return nil, nil, fmt.Errorf("peer credentials: %T is no socket", conn)
	}
	who, err := identity.FromSocket(c)
	if err != nil {
		return nil, nil, err
	}
	safe := credentials.CommonAuthInfo{SecurityLevel: credentials.PrivacyAndIntegrity}
	return conn, socketPeer{safe, who, identity.SameNetwork(c)}, nil
}

// Clone implements [credentials.TransportCredentials].
func (c socketCredentials) Clone() credentials.TransportCredentials { return c }
