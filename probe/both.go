package probe

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/sync/errgroup"
)

// Served is how a node serves a client.
type Served struct {
	Addr  string `json:"addr"`
	Words string `json:"error,omitempty"` // Words say why it does not. They are empty if it does.
	Err   error  `json:"-"`               // for errors.As; nil if Words is empty
}

// OnlyRSA asks each address as a client that can do TLS 1.2 with RSA only. It returns nothing if no
// address has an ECDSA and an RSA certificate of the host.
//
// The client goes no further than the node's certificate, which comes in the clear. crypto/tls
// cannot make such a client. Its hello always says that it takes ECDSA signatures, and Envoy goes
// by that.
func OnlyRSA(ctx context.Context, c Config) ([]Served, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	all, both := make([]Served, len(c.Addrs)), make([]bool, len(c.Addrs))
	g := new(errgroup.Group)
	g.SetLimit(atOnce)
	for i, addr := range c.Addrs {
		g.Go(func() error {
			all[i] = Served{Addr: addr}
			err := c.shownRSA(ctx, addr)
			if err != nil {
				all[i].Err, all[i].Words = err, err.Error()
			}
			unchecked := c
			unchecked.Insecure = true
			first, dialed := dial(ctx, addr, unchecked, nil, false)
			both[i] = !errors.Is(err, errNotRSA) && dialed == nil && first.Leaf.PublicKeyAlgorithm != x509.RSA
			return nil
		})
	}
	g.Wait() // all has the errors
	for _, b := range both {
		if b {
			return all, ctx.Err()
		}
	}
	return nil, ctx.Err()
}

// errNotRSA means that the node has no RSA certificate for the client.
var errNotRSA = errors.New("it shows no RSA certificate")

// shownRSA begins a handshake, and checks the RSA certificate that the node shows.
func (c Config) shownRSA(ctx context.Context, addr string) error {
	chain, err := c.rsaChain(ctx, addr)
	if err != nil || c.Insecure {
		return err
	}
	others := x509.NewCertPool()
	for _, o := range chain[1:] {
		others.AddCert(o)
	}
	how := x509.VerifyOptions{DNSName: c.SNI, Roots: c.RootCAs, Intermediates: others}
	if _, err := chain[0].Verify(how); err != nil {
		return fmt.Errorf("the RSA certificate for %q at %s: %w", c.SNI, addr, err)
	}
	return nil
}

// rsaChain begins a handshake, and returns the chain of the RSA certificate that the node shows.
// The error wraps errNotRSA, and an [alert] if the node answers with one.
func (c Config) rsaChain(ctx context.Context, addr string) ([]*x509.Certificate, error) {
	timeout := c.Timeout
	if timeout == 0 {
		timeout = defaultTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("%w: %w: %w", errNotRSA, errNoConnection, err)
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })()
	hello, err := rsaHello(c.SNI)
	if err == nil {
		_, err = io.WriteString(conn, proxyHeaders[c.ProxyProtocol]+string(hello))
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errNotRSA, err)
	}
	chain, err := readChain(bufio.NewReader(conn))
	if err != nil {
		return nil, fmt.Errorf("%w to a client that can do RSA only, for %q at %s: %w", errNotRSA, c.SNI, addr, err)
	}
	return chain, nil
}

// rsaHello returns a record with the hello of a client that does TLS 1.2 with ECDHE and RSA
// signatures, and nothing else (RFC 5246 §7.4.1.2).
func rsaHello(name string) ([]byte, error) {
	random := make([]byte, 32)
	if _, err := rand.Read(random); err != nil {
		return nil, err
	}
	type builder = cryptobyte.Builder
	var b builder
	list16 := func(b *builder, values ...uint16) {
		b.AddUint16LengthPrefixed(func(b *builder) {
			for _, v := range values {
				b.AddUint16(v)
			}
		})
	}
	extension := func(b *builder, kind uint16, body func(b *builder)) {
		b.AddUint16(kind)
		b.AddUint16LengthPrefixed(body)
	}
	b.AddUint8(recordHandshake)
	b.AddUint16(0x0301)
	b.AddUint16LengthPrefixed(func(b *builder) {
		b.AddUint8(1) // ClientHello
		b.AddUint24LengthPrefixed(func(b *builder) {
			b.AddUint16(0x0303)
			b.AddBytes(random)
			b.AddUint8(0)                                   // no session
			list16(b, 0xc02f, 0xc030, 0xcca8, 0x009c, 0xff) // RSA's; renegotiation is secure
			b.AddBytes([]byte{1, 0})                        // no compression
			b.AddUint16LengthPrefixed(func(b *builder) {
				extension(b, 0, func(b *builder) { // the server name
					b.AddUint16LengthPrefixed(func(b *builder) {
						b.AddUint8(0)
						b.AddUint16LengthPrefixed(func(b *builder) { b.AddBytes([]byte(name)) })
					})
				})
				extension(b, 10, func(b *builder) { list16(b, 29, 23, 24) }) // X25519, P-256, P-384
				extension(b, 11, func(b *builder) { b.AddBytes([]byte{1, 0}) })
				extension(b, 13, func(b *builder) { // RSA-PSS and PKCS #1, with SHA-2
					list16(b, 0x0804, 0x0805, 0x0806, 0x0401, 0x0501, 0x0601)
				})
				extension(b, 16, func(b *builder) { // ALPN
					b.AddUint16LengthPrefixed(func(b *builder) {
						b.AddUint8LengthPrefixed(func(b *builder) { b.AddBytes([]byte("http/1.1")) })
					})
				})
				extension(b, 23, func(*builder) {}) // the extended master secret
			})
		})
	})
	return b.Bytes()
}

const (
	recordAlert     = 21
	recordHandshake = 22
	maxFlight       = 1 << 17 // bytes that a node may send before its certificate has ended
)

// alert is a TLS alert with which a node answers a hello (RFC 8446 §6).
type alert uint8

const protocolVersion alert = 70

func (a alert) Error() string { return fmt.Sprintf("the node answers with alert %d", uint8(a)) }

// readChain reads the node's answer up to its certificate.
func readChain(r io.Reader) ([]*x509.Certificate, error) {
	var said cryptobyte.String
	var flight []byte
	for len(flight) < maxFlight {
		head := make([]byte, 5)
		if _, err := io.ReadFull(r, head); err != nil {
			return nil, err
		}
		body := make([]byte, binary.BigEndian.Uint16(head[3:]))
		if _, err := io.ReadFull(r, body); err != nil {
			return nil, err
		}
		switch {
		case head[0] == recordAlert && len(body) == 2:
			return nil, alert(body[1])
		case head[0] != recordHandshake:
			return nil, fmt.Errorf("the node answers with a record of type %d", head[0])
		}
		flight = append(flight, body...)
		for said = flight; ; {
			var kind uint8
			var message cryptobyte.String
			if !said.ReadUint8(&kind) || !said.ReadUint24LengthPrefixed(&message) {
				break // more is to come
			}
			if kind == 11 {
				return parseChain(message)
			}
		}
	}
	return nil, errors.New("the node says too much before its certificate")
}

// parseChain parses the message Certificate of TLS 1.2. The leaf must be RSA.
func parseChain(message cryptobyte.String) (chain []*x509.Certificate, err error) {
	var list cryptobyte.String
	if !message.ReadUint24LengthPrefixed(&list) {
		return nil, errors.New("the node's certificate cannot be read")
	}
	for !list.Empty() {
		var der cryptobyte.String
		if !list.ReadUint24LengthPrefixed(&der) {
			return nil, errors.New("the node's certificate cannot be read")
		}
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, err
		}
		chain = append(chain, c)
	}
	if len(chain) == 0 || chain[0].PublicKeyAlgorithm != x509.RSA {
		return nil, errors.New("the node shows another kind of certificate")
	}
	return chain, nil
}
