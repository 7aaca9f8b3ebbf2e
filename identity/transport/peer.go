package transport

import (
	"context"
	"fmt"
	"net"
	"syscall"
	"time"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/peer"

	"github.com/lockstep-tls/lockstep/identity"
)

// Identity returns who the peer of a stream proved to be. It is empty on plaintext TCP. The leaf
// of a TLS connection can be believed, since [MTLS] lets in only certificates that it has
// verified.
func Identity(ctx context.Context) string {
	switch info := authInfo(ctx).(type) {
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
	s, ok := authInfo(ctx).(socketPeer)
	return ok, ok && s.local
}

// Validity returns when the certificate is valid that the peer of a stream showed. It is zero if
// the peer showed none.
func Validity(ctx context.Context) (notBefore, notAfter time.Time) {
	if info, ok := authInfo(ctx).(credentials.TLSInfo); ok && len(info.State.PeerCertificates) > 0 {
		c := info.State.PeerCertificates[0]
		return c.NotBefore, c.NotAfter
	}
	return notBefore, notAfter
}

// authInfo is what the credentials of the listener found out. It is nil if there is no peer.
func authInfo(ctx context.Context) credentials.AuthInfo {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return nil
	}
	// see server.Ordered
	if ordered, ok := p.AuthInfo.(interface{ Unwrap() credentials.AuthInfo }); ok {
		return ordered.Unwrap()
	}
	return p.AuthInfo
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
