package edgeproxy

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/pires/go-proxyproto"
)

// proxied is a listener some of whose connections begin with a header of the PROXY protocol. It
// tells the address of the client for which a balancer has made the connection.
//
// Source: doc/proxy-protocol.txt of HAProxy
type proxied struct {
	net.Listener
	// from are the networks of the balancers. Their connections must begin with a header. If a
	// balancer sends none, its clients could send one themselves. A header from another network is
	// no TLS, and the handshake fails.
	from []netip.Prefix
	// timeout is for the header to come.
	timeout time.Duration
}

func (p *proxied) Accept() (net.Conn, error) {
	c, err := p.Listener.Accept()
	if err != nil || !within(p.from, c.RemoteAddr().String()) {
		return c, err
	}
	return &fromBalancer{Conn: c, timeout: p.timeout}, nil
}

// fromBalancer is a connection that begins with a header. The header is read when the connection is
// first read, or asked for its remote address. net/http does both in the goroutine of the
// connection, so that a slow header keeps nobody else waiting.
type fromBalancer struct {
	net.Conn
	timeout time.Duration

	once   sync.Once
	client net.Addr      // client is nil if the header names none.
	local  net.Addr      // local is the address to which the client connected, as client.
	err    error         // err is why the header cannot be used.
	rest   *bufio.Reader // rest has what came with the header. It is nil when that was read.
}

// RemoteAddr returns the address of the client. It is the balancer's own if the balancer speaks for
// itself, or if its header cannot be used.
func (c *fromBalancer) RemoteAddr() net.Addr {
	c.once.Do(c.readHeader)
	if c.client != nil {
		return c.client
	}
	return c.Conn.RemoteAddr()
}

// LocalAddr returns the address to which the client connected, which is the balancer's.
func (c *fromBalancer) LocalAddr() net.Addr {
	c.once.Do(c.readHeader)
	if c.local != nil {
		return c.local
	}
	return c.Conn.LocalAddr()
}

func (c *fromBalancer) Read(b []byte) (int, error) {
	c.once.Do(c.readHeader)
	switch {
	case c.err != nil:
		return 0, c.err
	case c.rest == nil:
		return c.Conn.Read(b)
	case c.rest.Buffered() > 0:
		return c.rest.Read(b)
	}
	c.rest = nil
	return c.Conn.Read(b)
}

func (c *fromBalancer) readHeader() {
	c.Conn.SetReadDeadline(time.Now().Add(c.timeout))
	defer c.Conn.SetReadDeadline(time.Time{}) // net/http sets its own afterwards
	c.rest = bufio.NewReaderSize(c.Conn, 256)
	if c.client, c.local, c.err = proxyHeader(c.rest); c.err != nil {
		c.err = fmt.Errorf("PROXY protocol: %w", c.err)
	}
}

const (
	// maxProxyLine is the longest header of version 1.
	maxProxyLine = 107
	// maxProxyBlock bounds what follows the first 16 bytes of a header of version 2. The longest
	// that balancers send there are certificates of clients.
	maxProxyBlock = 4 << 10
)

var (
	errNoHeader = errors.New("the connection does not begin with a header: does the balancer send one " +
		"(HAProxy: send-proxy-v2)?")
	errHeaderTLS = errors.New("the connection begins with TLS, without a header: have the balancer send one " +
		"(HAProxy: send-proxy-v2), or take its network out of proxy_protocol")
	errHeaderLong = errors.New("the header is too long")
	errHeaderTLVs = errors.New("the header's TLVs are cut off")
	errHeaderSum  = errors.New("the header's checksum (CRC32c) is wrong")
)

// proxyHeader reads a header, and nothing after it. It returns nil if the balancer speaks for
// itself (LOCAL, UNKNOWN), or for a client that has no IP address. local is the address to which
// the client connected.
func proxyHeader(r *bufio.Reader) (client, local net.Addr, err error) {
	first, err := r.Peek(1)
	if err != nil {
		return nil, nil, err
	}
	var raw []byte
	switch first[0] {
	case proxyproto.SIGV1[0]:
		raw, err = proxyLine(r)
	case proxyproto.SIGV2[0]:
		raw, err = proxyBlock(r)
	case 22: // a handshake record (RFC 8446, section 5.1)
		return nil, nil, errHeaderTLS
	default:
		return nil, nil, errNoHeader
	}
	if err != nil {
		return nil, nil, err
	}
	const versionAndCommand, family = 12, 13
	if raw[0] == proxyproto.SIGV2[0] && raw[versionAndCommand] == byte(proxyproto.PROXY) && raw[family] == 0 {
		return nil, nil, checkTLVs(raw, 16) // AF_UNSPEC: the address is the balancer's
	}
	h, err := proxyproto.Read(bufio.NewReaderSize(bytes.NewReader(raw), maxProxyLine))
	switch {
	case errors.Is(err, proxyproto.ErrNoProxyProtocol):
		return nil, nil, errNoHeader
	case err != nil:
		return nil, nil, errors.New(err.Error()) // an EOF is that of raw, not of the connection
	case h.Command.IsLocal():
		return nil, nil, nil
	}
	if h.Version == 2 {
		block := map[byte]int{1: 12, 2: 36, 3: 216}[raw[family]>>4]
		if err := checkTLVs(raw, 16+block); err != nil {
			return nil, nil, err
		}
	}
	from, to, ok := h.IPs()
	if !ok {
		return nil, nil, nil // a unix socket
	}
	fromPort, toPort, _ := h.Ports()
	return &net.TCPAddr{IP: from, Port: fromPort}, &net.TCPAddr{IP: to, Port: toPort}, nil
}

// proxyLine reads a header of version 1.
func proxyLine(r *bufio.Reader) (raw []byte, err error) {
	for len(raw) < maxProxyLine {
		b, err := r.ReadByte()
		if err != nil {
			return nil, err
		}
		if raw = append(raw, b); b == '\n' {
			return raw, nil
		}
	}
	return nil, errHeaderLong
}

// proxyBlock reads a header of version 2.
func proxyBlock(r *bufio.Reader) ([]byte, error) {
	head, err := r.Peek(16)
	if err != nil {
		return nil, err
	}
	if !bytes.HasPrefix(head, proxyproto.SIGV2) {
		return nil, errNoHeader
	}
	more := int(binary.BigEndian.Uint16(head[14:]))
	if more > maxProxyBlock {
		return nil, fmt.Errorf("%w: %d bytes", errHeaderLong, more)
	}
	raw := make([]byte, 16+more)
	_, err = io.ReadFull(r, raw)
	return raw, err
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// checkTLVs looks at what stands behind the addresses of a header. A checksum that is there must be
// right. It is taken over the whole header, with four zeros in the place of the checksum.
func checkTLVs(raw []byte, at int) error {
	for at < len(raw) {
		value := at + 3
		if value > len(raw) || value+int(binary.BigEndian.Uint16(raw[at+1:])) > len(raw) {
			return errHeaderTLVs
		}
		end := value + int(binary.BigEndian.Uint16(raw[at+1:]))
		if proxyproto.PP2Type(raw[at]) == proxyproto.PP2_TYPE_CRC32C {
			if end-value != 4 {
				return errHeaderSum
			}
			sum := crc32.Checksum(raw[:value], castagnoli)
			sum = crc32.Update(sum, castagnoli, make([]byte, 4))
			sum = crc32.Update(sum, castagnoli, raw[end:])
			if sum != binary.BigEndian.Uint32(raw[value:]) {
				return errHeaderSum
			}
		}
		at = end
	}
	return nil
}

// within reports whether the networks have an address, which is host:port.
func within(networks []netip.Prefix, address string) bool {
	if len(networks) == 0 {
		return false
	}
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		return false
	}
	ip := at.Addr().Unmap().WithZone("")
	for _, n := range networks {
		if n.Contains(ip) {
			return true
		}
	}
	return false
}

// balancerOf returns the address of the balancer that told the client of a connection. It is empty
// if none did.
func balancerOf(c net.Conn) string {
	tunnel, ok := c.(interface{ NetConn() net.Conn })
	if !ok {
		return ""
	}
	if b, ok := tunnel.NetConn().(*fromBalancer); ok && b.client != nil {
		return b.Conn.RemoteAddr().String()
	}
	return ""
}
