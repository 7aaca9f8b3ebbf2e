package probe

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/lockstep-tls/lockstep/keysource"
)

// Config says how to connect. This package does not change values, so they may be shared.
type Config struct {
	Addrs    []string       // the nodes, host:port; only for Verify
	SNI      string         // the server name that is asked for and checked
	RootCAs  *x509.CertPool // nil means the system's
	Insecure bool           // the certificate is not checked
	// Versions are of tls.VersionTLS12 and tls.VersionTLS13. Nil means both. Dial negotiates the
	// newest of them.
	Versions []uint16
	// Timeout is for one connection, from dialling to the ticket. 0 means 5 s.
	Timeout time.Duration
	// MaxPairs is about how many pairs of a TLS version Verify tries. It takes a sample if there
	// are more. 0 means 400, which is all pairs of 20 addresses.
	MaxPairs int
	// ProxyProtocol is the version of the PROXY protocol, 1 or 2, whose header goes before each
	// handshake. 0 means that none does.
	ProxyProtocol int
}

// proxyHeaders begin a connection that a proxy makes for itself, by version.
//
// Source: the PROXY protocol, UNKNOWN of version 1 and LOCAL of version 2
// (doc/proxy-protocol.txt of HAProxy)
var proxyHeaders = map[int]string{
	1: "PROXY UNKNOWN\r\n",
	2: "\r\n\r\n\x00\r\nQUIT\n" + "\x20\x00\x00\x00",
}

const defaultTimeout = 5 * time.Second

func (c Config) versions() []uint16 {
	if len(c.Versions) == 0 {
		return []uint16{tls.VersionTLS12, tls.VersionTLS13}
	}
	return c.Versions
}

// Session is what a client keeps of a connection to resume it. It may be offered any number of
// times, also concurrently.
type Session struct {
	Version uint16
	// KeyID is the public name of the ticket key that made the ticket, as in the status of a
	// scope. It has a meaning only for tickets that begin with the key's name, as RFC 5077 §4
	// recommends and Envoy does. It is empty for a session without a ticket.
	KeyID  string
	Issued time.Time // when the ticket arrived

	state *tls.ClientSessionState
}

// Result is one connection whose handshake succeeded.
type Result struct {
	Resumed   bool
	Handshake time.Duration // without the TCP connect
	Session   *Session      // made by this connection; nil if the node gave no ticket
	// Leaf is the certificate that the node showed. A resumed session has that of its full
	// handshake.
	Leaf *x509.Certificate
}

// ErrLargeKey means that a certificate of the node's chain has an RSA key of more bits than this
// program verifies. So nothing is known of the node's sessions.
var ErrLargeKey = errors.New("an RSA key of the node's chain is too large to be verified")

// Dial connects to addr, offers a session (unless it is nil), waits for the node's ticket, and
// closes the connection. It is no error if the node declines the session: then Result.Resumed is
// false, and a full handshake was made. An error names addr and the step that failed.
func Dial(ctx context.Context, addr string, c Config, offer *Session) (Result, error) {
	return dial(ctx, addr, c, offer, true)
}

func dial(parent context.Context, addr string, c Config, offer *Session, await bool) (Result, error) {
	timeout := c.Timeout
	if timeout == 0 {
		timeout = defaultTimeout
	}
	ctx, cancel := context.WithTimeout(parent, timeout)
	defer cancel()
	raw, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		// its text has the address
		return Result{}, fmt.Errorf("probe: %w: %w", errNoConnection, err)
	}
	defer raw.Close()
	stop := context.AfterFunc(ctx, func() { raw.SetDeadline(time.Unix(1, 0)) })
	defer stop()

	keep := &oneShot{got: make(chan struct{})}
	if offer != nil {
		keep.offer = offer.state
	}
	asked := false
	versions := c.versions()
	handshakeError := func(err error) error {
		if asked {
			err = fmt.Errorf("%w: %w", errClientCertificate, err)
		}
		if strings.Contains(err.Error(), "RSA key larger than") { // crypto/tls has no value for it
			err = fmt.Errorf("%w: %w", ErrLargeKey, err)
		}
		return fmt.Errorf("probe: TLS handshake with %s for %q: %w", addr, c.SNI, err)
	}
	if _, err := io.WriteString(raw, proxyHeaders[c.ProxyProtocol]); err != nil {
		return Result{}, handshakeError(err)
	}
	conn := tls.Client(raw, &tls.Config{
		ServerName:         c.SNI,
		RootCAs:            c.RootCAs,
		InsecureSkipVerify: c.Insecure,
		MinVersion:         slices.Min(versions),
		MaxVersion:         slices.Max(versions),
		NextProtos:         []string{"http/1.1"},
		ClientSessionCache: keep,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			asked = true
			return new(tls.Certificate), nil // none
		},
	})
	defer conn.Close()
	start := time.Now()
	if err := conn.HandshakeContext(ctx); err != nil {
		return Result{}, handshakeError(err)
	}
	state := conn.ConnectionState()
	r := Result{Resumed: state.DidResume, Handshake: time.Since(start), Leaf: state.PeerCertificates[0]}
	if await && state.Version >= tls.VersionTLS13 {
		err := keep.await(conn, c.SNI)
		if refused := (*net.OpError)(nil); errors.As(err, &refused) && refused.Op == "remote error" {
			// In TLS 1.3 the client has finished before the server has checked it.
			return Result{}, handshakeError(err)
		}
		if parent.Err() != nil {
			return Result{}, fmt.Errorf("probe: waiting for the session ticket of %s: %w", addr, context.Cause(parent))
		}
	}
	r.Session = keep.session(state.Version)
	return r, nil
}

// oneShot is a session cache that offers one session once, and keeps the first that comes back.
type oneShot struct {
	mu    sync.Mutex
	offer *tls.ClientSessionState
	first *tls.ClientSessionState
	at    time.Time
	got   chan struct{} // closed when first is set
}

// Get implements [tls.ClientSessionCache]. The key is ignored: the cache belongs to one
// connection.
func (o *oneShot) Get(string) (*tls.ClientSessionState, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	s := o.offer
	o.offer = nil
	return s, s != nil
}

// Put implements [tls.ClientSessionCache]. A nil state means that crypto/tls removes the session
// that it used.
func (o *oneShot) Put(_ string, s *tls.ClientSessionState) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if s != nil && o.first == nil {
		o.first, o.at = s, time.Now()
		close(o.got)
	}
}

// await reads until the ticket has come. In TLS 1.3 it comes after the handshake. BoringSSL sends
// it only when the server first writes, so something must be asked that is answered.
func (o *oneShot) await(conn *tls.Conn, host string) error {
	if _, err := fmt.Fprintf(conn, "HEAD / HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", host); err != nil {
		return err
	}
	buf := make([]byte, 4096)
	for {
		select {
		case <-o.got:
			return nil
		default:
		}
		if _, err := conn.Read(buf); err != nil {
			return err
		}
	}
}

func (o *oneShot) session(version uint16) *Session {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.first == nil {
		return nil
	}
	s := &Session{Version: version, Issued: o.at, state: o.first}
	if ticket, _, err := o.first.ResumptionState(); err == nil && len(ticket) >= 16 {
		s.KeyID = keysource.TicketKeyID(ticket[:16])
	}
	return s
}

// ErrNoTicket means that a handshake succeeded, but there is nothing to offer elsewhere.
var ErrNoTicket = errors.New("the node gave no session ticket")
