package visit

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
)

func shake(c Command) error {
	var sessions tls.ClientSessionCache
	if c.Resume {
		s, err := c.session()
		if err != nil {
			return err
		}
		sessions = s
	}
	return c.each(func(name string) error {
		conn, raw, err := c.dial(name, "http/1.1", sessions)
		if err != nil {
			return err
		}
		if got := conn.ConnectionState().DidResume; got != c.Resume {
			return fmt.Errorf("%s: resumed: %v", name, got)
		}
		// The server has done all of its part when it ends the connection, too. Its tickets are not
		// looked at.
		conn.CloseWrite()
		raw.CloseWrite()
		io.Copy(io.Discard, raw)
		raw.Close()
		return nil
	})
}

// session makes a handshake and a request, with whose answer the ticket has come.
func (c Command) session() (*one, error) {
	s := new(one)
	conn, _, err := c.dial(c.name(0), "http/1.1", s)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	if _, err := fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", c.name(0)); err != nil {
		return nil, err
	}
	if _, err := io.Copy(io.Discard, conn); err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, err
	}
	if s.state.Load() == nil {
		return nil, errors.New("no ticket came")
	}
	return s, nil
}

// one keeps the first session, so that each handshake offers the same.
type one struct {
	state atomic.Pointer[tls.ClientSessionState]
}

func (o *one) Get(string) (*tls.ClientSessionState, bool) {
	s := o.state.Load()
	return s, s != nil
}

func (o *one) Put(_ string, s *tls.ClientSessionState) {
	if s != nil {
		o.state.CompareAndSwap(nil, s)
	}
}
