package edgeproxy

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"net"
	"net/http"
)

// http1 is a connection that carries HTTP/1. It looks at the head of each request while net/http
// reads it. A read returns nothing of the next request.
type http1 struct {
	*tls.Conn
	listener *listener
	framing  framing
	rest     []byte // rest was read, and is of the next request. It is nil if there is none.
	handled  int    // handled counts the requests that a handler was given.
	// own is true while no handler answers. What is written then is an answer of net/http itself.
	own bool
}

func (c *http1) Read(p []byte) (int, error) {
	if len(c.rest) > 0 {
		n := c.framing.take(c.rest[:min(len(p), len(c.rest))])
		copy(p, c.rest[:n])
		if c.rest = c.rest[n:]; len(c.rest) == 0 {
			c.rest = nil
		}
		return n, nil
	}
	n, err := c.Conn.Read(p)
	used := c.framing.take(p[:n])
	if used < n {
		c.rest = bytes.Clone(p[used:n])
		err = nil // the next read has it again
	}
	return used, err
}

func (c *http1) Write(p []byte) (int, error) {
	if c.own {
		c.own = false
		c.listener.answered(c, p)
	}
	return c.Conn.Write(p)
}

// upgrade is called when the connection becomes something else. It returns what to read then, where
// nothing is missing that the client has sent early.
func (c *http1) upgrade(r *bufio.Reader) net.Conn {
	c.framing.at = upgraded
	if n := r.Buffered(); n > 0 {
		early, _ := r.Peek(n)
		c.rest = append(bytes.Clone(early), c.rest...)
	}
	if len(c.rest) == 0 {
		return c.Conn
	}
	return c
}

// http1Of returns the connection of a request. It is nil for HTTP/2.
func http1Of(r *http.Request) *http1 {
	c, _ := connectionOf(r).Conn.(*http1)
	return c
}

// connState is for [http.Server]. A connection becomes idle when all of a response was written.
func connState(c net.Conn, s http.ConnState) {
	if h, ok := c.(*http1); ok && s == http.StateIdle {
		h.own = true
	}
}
