package main

import (
	"fmt"
	"net"
	"strings"
	"sync"
)

// link passes connections on to an address, byte for byte. While it is cut, nothing gets through
// and nobody is told. What was sent waits, as where a network drops all packets. Who connects
// meanwhile gets no answer.
type link struct {
	listener net.Listener
	to       string
	wg       sync.WaitGroup

	mu     sync.Mutex
	gate   chan struct{} // gate is closed while connections pass.
	open   map[net.Conn]bool
	closed bool
}

// newLink starts one that listens on addr. Addresses are host:port or unix:/path.
func newLink(addr, to string) (*link, error) {
	kind, where := network(addr)
	listener, err := net.Listen(kind, where)
	if err != nil {
		return nil, fmt.Errorf("a link to %s: %w", to, err)
	}
	l := &link{listener: listener, to: to, gate: make(chan struct{}), open: map[net.Conn]bool{}}
	close(l.gate)
	l.wg.Go(l.accept)
	return l, nil
}

// network is an address as package net wants it.
func network(addr string) (kind, where string) {
	if path, ok := strings.CutPrefix(addr, "unix:"); ok {
		return "unix", path
	}
	return "tcp", addr
}

// cut lets nothing through until join.
func (l *link) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.gate = make(chan struct{})
}

func (l *link) join() {
	l.mu.Lock()
	defer l.mu.Unlock()
	close(l.gate)
}

// close ends all connections, also during a cut.
func (l *link) close() {
	l.listener.Close()
	l.mu.Lock()
	l.closed = true
	for c := range l.open {
		c.Close()
	}
	select {
	case <-l.gate:
	default:
		close(l.gate)
	}
	l.mu.Unlock()
	l.wg.Wait()
}

// passing is closed while there is no cut.
func (l *link) passing() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.gate
}

func (l *link) accept() {
	for {
		c, err := l.listener.Accept()
		if err != nil {
			return // it was closed
		}
		l.wg.Go(func() { l.serve(c) })
	}
}

func (l *link) serve(c net.Conn) {
	if !l.keep(c) {
		return
	}
	defer l.drop(c)
	gate := l.passing()
	select {
	case <-gate:
	default: // Who connects during a cut has no connection after it.
		<-gate
		return
	}
	kind, where := network(l.to)
	other, err := net.Dial(kind, where)
	if err != nil || !l.keep(other) {
		return // Who connects is told by the end of his connection.
	}
	defer l.drop(other)
	back := make(chan struct{})
	go func() { defer close(back); l.pass(other, c) }()
	l.pass(c, other)
	<-back
}

// pass hands on what comes from a connection until one of the two ends. Then it ends both.
func (l *link) pass(from, to net.Conn) {
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		<-l.passing()
		if n > 0 {
			if _, werr := to.Write(buf[:n]); werr != nil {
				err = werr
			}
		}
		if err != nil {
			from.Close()
			to.Close()
			return
		}
	}
}

// keep notes a connection. It reports false, and closes it, if the link was closed.
func (l *link) keep(c net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		c.Close()
		return false
	}
	l.open[c] = true
	return true
}

func (l *link) drop(c net.Conn) {
	c.Close()
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.open, c)
}
