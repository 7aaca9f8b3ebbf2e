package swarm

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"net"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// The windows that Envoy 1.40 opens.
const (
	streamWindow = 16 << 20
	connWindow   = 24 << 20
)

// conn is an HTTP/2 connection with one gRPC stream. One goroutine at a time may use it.
type conn struct {
	nc   net.Conn
	in   *bufio.Reader
	fr   *http2.Framer // writes into out
	out  bytes.Buffer
	part []byte // the beginning of a message whose end has not come
	read uint32 // since the last window update
}

// dial opens the connection and the stream. What it says first is written with the first flush.
func dial(addr string, config *tls.Config, path string) (*conn, error) {
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("swarm: %w", err)
	}
	c := &conn{nc: nc}
	if config != nil {
		tc := tls.Client(nc, config)
		if err := tc.Handshake(); err != nil {
			nc.Close()
			return nil, fmt.Errorf("swarm: TLS with %s: %w", addr, err)
		}
		c.nc = tc
	}
	c.in = bufio.NewReaderSize(c.nc, 4096)
	c.fr = http2.NewFramer(&c.out, c.in)
	c.fr.SetReuseFrames()
	c.fr.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	c.out.WriteString(http2.ClientPreface)
	c.must(c.fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: streamWindow}))
	c.must(c.fr.WriteWindowUpdate(0, connWindow-65535))
	c.must(
		c.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: headers(addr, path), EndHeaders: true}),
	)
	return c, nil
}

func headers(addr, path string) []byte {
	var b bytes.Buffer
	e := hpack.NewEncoder(&b)
	for _, f := range [][2]string{
		{":method", "POST"}, {":scheme", "http"}, {":path", path}, {":authority", addr}, {"te", "trailers"},
		{"content-type", "application/grpc"}, {"user-agent", "swarm"},
	} {
		e.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]}) // into memory: cannot fail
	}
	return b.Bytes()
}

// must: the framer writes into memory, so that only a frame which HTTP/2 forbids can fail.
func (c *conn) must(err error) {
	if err != nil {
		panic(err)
	}
}

// send puts a gRPC message, with its header, into a frame; it goes out with the next flush. The
// server's window is not minded: a node's requests are small and follow answers.
func (c *conn) send(message []byte) { c.must(c.fr.WriteData(1, false, message)) }

func (c *conn) flush() error {
	if c.out.Len() == 0 {
		return nil
	}
	_, err := c.nc.Write(c.out.Bytes())
	c.out.Reset()
	return err
}

// receive reads one frame and calls f with each message that it completes, without its header.
func (c *conn) receive(f func(message []byte) error) error {
	frame, err := c.fr.ReadFrame()
	if err != nil {
		return err
	}
	switch frame := frame.(type) {
	case *http2.DataFrame:
		c.consume(frame.Length)
		if err := c.messages(frame.Data(), f); err != nil {
			return err
		}
		if frame.StreamEnded() {
			return fmt.Errorf("swarm: the server ended the stream")
		}
	case *http2.SettingsFrame:
		if !frame.IsAck() {
			c.must(c.fr.WriteSettingsAck())
		}
	case *http2.PingFrame:
		if !frame.IsAck() {
			c.must(c.fr.WritePing(true, frame.Data))
		}
	case *http2.MetaHeadersFrame:
		if frame.StreamEnded() {
			return fmt.Errorf("swarm: the server ended the stream: %v", frame.Fields)
		}
	case *http2.RSTStreamFrame:
		return fmt.Errorf("swarm: the server reset the stream: %v", frame.ErrCode)
	case *http2.GoAwayFrame:
		return fmt.Errorf("swarm: the server goes away: %v %s", frame.ErrCode, frame.DebugData())
	}
	return nil
}

func (c *conn) consume(n uint32) {
	c.read += n
	if c.read >= streamWindow/4 {
		c.must(c.fr.WriteWindowUpdate(0, c.read))
		c.must(c.fr.WriteWindowUpdate(1, c.read))
		c.read = 0
	}
}

// messages cuts b, the next bytes of the stream, into messages.
func (c *conn) messages(b []byte, f func([]byte) error) error {
	if len(c.part) > 0 {
		c.part = append(c.part, b...)
		b = c.part
	}
	for len(b) >= messageHeader {
		end := messageHeader + int(binary.BigEndian.Uint32(b[1:]))
		if b[0] != 0 {
			return fmt.Errorf("swarm: a compressed message")
		}
		if len(b) < end {
			break
		}
		if err := f(b[messageHeader:end]); err != nil {
			return err
		}
		b = b[end:]
	}
	c.part = append(c.part[:0], b...)
	if len(b) == 0 && cap(c.part) > 64<<10 {
		c.part = nil
	}
	return nil
}
