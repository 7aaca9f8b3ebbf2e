// Package visit is the clients of the edge's lines: TLS handshakes, requests on kept-alive
// connections, and connections that are held idle, at as little cost as it can, so that what is
// measured is the server. It speaks TLS 1.3 with X25519, which every server has, and HTTP/1.1 where
// nothing else is said.
package visit

import (
	"crypto/tls"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

// Command is one order.
type Command struct {
	// Op is one of:
	//   shake    makes Count handshakes, Parallel at a time, each on a connection of its own that
	//            is ended after it
	//   hold     opens Count connections, Parallel at a time, and makes a request on each
	//   request  makes requests on all that are held for Time, each again once it is answered
	//   drop     ends what is held
	Op       string
	Addr     string
	Pattern  string // Pattern is of the server names, with a %d if there are several.
	From     int    // From is the number of the first name.
	Names    int    // Names is how many there are, in turn. 0 means one.
	Count    int
	Parallel int
	Resume   bool // Resume has handshakes offer a session. Else they are full (shake).
	H2       bool // H2 has connections speak HTTP/2 (hold).
	Time     time.Duration
}

// Reply answers a command.
type Reply struct {
	Requests int // Requests is how many were answered with 200 (request).
}

// Visitors are the clients of one process.
type Visitors struct{ held map[string][]net.Conn } // by address

// New returns visitors who hold no connections.
func New() *Visitors { return &Visitors{map[string][]net.Conn{}} }

// Do carries out an order, as a method of net/rpc. One call at a time is allowed.
func (v *Visitors) Do(c Command, r *Reply) (err error) {
	switch c.Op {
	case "shake":
		err = shake(c)
	case "request":
		r.Requests, err = request(c, v.held[c.Addr])
	case "hold":
		v.held[c.Addr], err = hold(c, v.held[c.Addr])
	case "drop":
		for _, conn := range v.held[c.Addr] {
			conn.Close()
		}
		delete(v.held, c.Addr)
	default:
		err = fmt.Errorf("there is no %q", c.Op)
	}
	if err != nil {
		err = fmt.Errorf("visit: %s %s: %w", c.Op, c.Addr, err)
	}
	return err
}

// each calls f Count times, Parallel at a time, with the name that is next.
func (c Command) each(f func(name string) error) error {
	var next atomic.Int64
	var g errgroup.Group
	for range c.Parallel {
		g.Go(func() error {
			for {
				i := int(next.Add(1)) - 1
				if i >= c.Count {
					return nil
				}
				if err := f(c.name(i)); err != nil {
					return err
				}
			}
		})
	}
	return g.Wait()
}

// name is the i-th server name.
func (c Command) name(i int) string {
	if c.Names == 0 {
		return c.Pattern
	}
	return fmt.Sprintf(c.Pattern, c.From+i%c.Names)
}

// patience is for a connection with all that is done on it at once.
const patience = 30 * time.Second

// dial makes a connection with a handshake.
func (c Command) dial(name, protocol string, sessions tls.ClientSessionCache) (*tls.Conn, *net.TCPConn, error) {
	raw, err := net.DialTimeout("tcp", c.Addr, patience)
	if err != nil {
		return nil, nil, err
	}
	raw.SetDeadline(time.Now().Add(patience))
	conn := tls.Client(raw, &tls.Config{
		ServerName: name, InsecureSkipVerify: true, MinVersion: tls.VersionTLS13,
		CurvePreferences: []tls.CurveID{tls.X25519}, NextProtos: []string{protocol}, ClientSessionCache: sessions,
	})
	if err := conn.Handshake(); err != nil {
		raw.Close()
		return nil, nil, fmt.Errorf("%s: %w", name, err)
	}
	return conn, raw.(*net.TCPConn), nil
}
