package visit

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"sync"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

func hold(c Command, held []net.Conn) ([]net.Conn, error) {
	var mu sync.Mutex
	err := c.each(func(name string) error {
		conn, err := c.open(name)
		if err != nil {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		held = append(held, conn)
		return nil
	})
	return held, err
}

// open makes a connection that has carried one request.
func (c Command) open(name string) (net.Conn, error) {
	protocol := "http/1.1"
	if c.H2 {
		protocol = "h2"
	}
	conn, raw, err := c.dial(name, protocol, nil)
	if err != nil {
		return nil, err
	}
	if got := conn.ConnectionState().NegotiatedProtocol; c.H2 && got != protocol {
		return nil, fmt.Errorf("%s: it speaks %q", name, got)
	}
	if c.H2 {
		err = firstH2(conn, name)
	} else if _, err = conn.Write(get(name)); err == nil {
		err = answer(bufio.NewReader(conn))
	}
	if err != nil {
		return nil, err
	}
	return conn, raw.SetDeadline(time.Time{})
}

// firstH2 is the preface and a request of HTTP/2, until its stream ends.
func firstH2(conn net.Conn, name string) error {
	var out, fields bytes.Buffer
	out.WriteString(http2.ClientPreface)
	f := http2.NewFramer(&out, conn)
	e := hpack.NewEncoder(&fields)
	for _, h := range [][2]string{
		{":method", "GET"}, {":scheme", "https"}, {":authority", name}, {":path", "/some/path"},
	} {
		if err := e.WriteField(hpack.HeaderField{Name: h[0], Value: h[1]}); err != nil {
			return err
		}
	}
	f.WriteSettings()
	f.WriteSettingsAck()
	f.WriteHeaders(http2.HeadersFrameParam{
		StreamID: 1, BlockFragment: fields.Bytes(), EndStream: true, EndHeaders: true,
	})
	if _, err := conn.Write(out.Bytes()); err != nil {
		return err
	}
	for {
		frame, err := f.ReadFrame()
		if err != nil {
			return err
		}
		switch frame := frame.(type) {
		case *http2.RSTStreamFrame, *http2.GoAwayFrame:
			return fmt.Errorf("%s: the server sent %v", name, frame.Header())
		}
		h := frame.Header()
		if h.StreamID == 1 && h.Flags.Has(http2.FlagDataEndStream) && h.Type != http2.FrameWindowUpdate {
			return nil
		}
	}
}
