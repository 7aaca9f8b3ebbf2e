package edge

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"
)

// dial returns a connection to the first replica of the control plane that answers. It connects
// when it is used.
func dial(c Config) (*grpc.ClientConn, error) {
	creds := insecure.NewCredentials()
	if c.XDSCert != "" {
		if faults := c.connFaults(); len(faults) > 0 {
			return nil, faults[0]
		}
		creds = mutual{credentials.NewTLS(nil), c}
	}
	replicas := manual.NewBuilderWithScheme("lockstep")
	var state resolver.State
	for _, at := range c.endpoints() {
		a := resolver.Address{Addr: strings.TrimPrefix(at, "unix:"), ServerName: c.XDSName}
		if host, _, err := net.SplitHostPort(at); err == nil && a.ServerName == "" {
			a.ServerName = host
		}
		state.Endpoints = append(state.Endpoints, resolver.Endpoint{Addresses: []resolver.Address{a}})
	}
	replicas.InitialState(state)
	options := []grpc.DialOption{
		grpc.WithTransportCredentials(creds),
		grpc.WithResolvers(replicas),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second, Timeout: 3 * time.Second,
			PermitWithoutStream: true}),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff: backoff.Config{BaseDelay: 200 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2,
				MaxDelay: 2 * time.Second}, MinConnectTimeout: 3 * time.Second,
		}),
		grpc.WithContextDialer(dialEither),
	}
	return grpc.NewClient("lockstep:///control-plane", options...)
}

// connFaults returns everything that is wrong with the files of mTLS.
func (c Config) connFaults() (all []error) {
	if _, err := tls.LoadX509KeyPair(c.XDSCert, c.XDSKey); err != nil {
		all = append(all, fmt.Errorf("xds_cert and xds_key: %w", err))
	}
	if _, err := roots(c.XDSCA); err != nil {
		all = append(all, err)
	}
	return all
}

// mutual is mTLS with the files as they are at each handshake, since they are renewed meanwhile.
type mutual struct {
	credentials.TransportCredentials
	c Config
}

// ClientHandshake notes the host of the endpoint. If that is an IP address, crypto/tls does not
// pass it on to VerifyConnection.
func (m mutual) ClientHandshake(ctx context.Context, host string, raw net.Conn) (net.Conn, credentials.AuthInfo,
	error) {
	return credentials.NewTLS(m.config(host)).ClientHandshake(ctx, host, raw)
}

// Clone implements [credentials.TransportCredentials].
func (m mutual) Clone() credentials.TransportCredentials {
	return mutual{m.TransportCredentials.Clone(), m.c}
}

func (m mutual) config(host string) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			pair, err := tls.LoadX509KeyPair(m.c.XDSCert, m.c.XDSKey)
			return &pair, err
		},
		// VerifyConnection does it, since crypto/tls would keep the CAs that it began with
		InsecureSkipVerify: true,
		VerifyConnection: func(cs tls.ConnectionState) error {
			cas, err := roots(m.c.XDSCA)
			if err != nil {
				return err
			}
			o := x509.VerifyOptions{Roots: cas, Intermediates: x509.NewCertPool(),
				KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
			for _, i := range cs.PeerCertificates[1:] {
				o.Intermediates.AddCert(i)
			}
			leaf := cs.PeerCertificates[0]
			if _, err := leaf.Verify(o); err != nil {
				return err
			}
			return carries(leaf, host, m.c.XDSName)
		},
	}
}

// carries checks that the certificate carries host, or the SPIFFE ID if the configuration demands
// one.
func carries(leaf *x509.Certificate, host, want string) error {
	if !strings.HasPrefix(want, "spiffe://") {
		return leaf.VerifyHostname(host)
	}
	for _, u := range leaf.URIs {
		if u.String() == want {
			return nil
		}
	}
	return fmt.Errorf("the control plane's certificate does not carry %s", want)
}

func roots(file string) (*x509.CertPool, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("xds_ca: %w", err)
	}
	p := x509.NewCertPool()
	if !p.AppendCertsFromPEM(b) {
		return nil, errors.New("xds_ca: " + file + " holds no certificate")
	}
	return p, nil
}

// dialEither connects to host:port, or to the path of a unix socket.
func dialEither(ctx context.Context, addr string) (net.Conn, error) {
	network := "tcp"
	if strings.HasPrefix(addr, "/") {
		network = "unix"
	}
	return new(net.Dialer).DialContext(ctx, network, addr)
}
