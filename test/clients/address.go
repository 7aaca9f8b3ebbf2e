package main

import (
	"bufio"
	"encoding/binary"
	"io"
	"net"
	"sync"

	"github.com/lockstep-tls/lockstep/test/fleet"
)

// address is where a client connects, as to a balancer. Each connection goes to the node that is
// behind the address at the time.
type address struct {
	net.Listener
	busy sync.WaitGroup

	mu     sync.Mutex
	change *sync.Cond // signals a change of any field below
	node   string     // node is the address behind. If it is empty, connections wait.
	left   int        // left is how many connections go there. Further ones wait.
	conns  []net.Conn // conns are open.
	seen   []*wire    // seen are the connections since the node was named.
	early  map[*wire]bool
	closed bool
}

// enough is more connections than a client makes at once.
const enough = 1000

func listen() (*address, error) {
	at, err := fleet.Addr()
	if err != nil {
		return nil, err
	}
	ln, err := net.Listen("tcp", at)
	if err != nil {
		return nil, err
	}
	a := &address{Listener: ln}
	a.change = sync.NewCond(&a.mu)
	a.busy.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			a.busy.Go(func() { a.carry(c) })
		}
	})
	return a, nil
}

// point names the node for the next connections, of which at most n go there.
func (a *address) point(node string, n int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.node, a.left, a.seen, a.early = node, n, nil, map[*wire]bool{}
	a.change.Broadcast()
}

// settle has further connections wait, cuts those that are open, and returns what was seen of the
// ones since point.
func (a *address) settle() (all []seen) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.node = ""
	for _, c := range a.conns {
		c.Close()
	}
	a.conns = nil
	for _, w := range a.seen {
		s := w.look()
		s.Early = a.early[w]
		all = append(all, s)
	}
	return all
}

func (a *address) Close() error {
	a.settle()
	a.mu.Lock()
	a.closed = true
	a.change.Broadcast()
	a.mu.Unlock()
	err := a.Listener.Close()
	a.busy.Wait()
	return err
}

func (a *address) carry(client net.Conn) {
	defer client.Close()
	w := &wire{}
	a.mu.Lock()
	for !a.closed && (a.node == "" || a.left == 0) {
		a.change.Wait()
	}
	if a.closed {
		a.mu.Unlock()
		return
	}
	a.left--
	node := a.node
	a.seen, a.conns = append(a.seen, w), append(a.conns, client)
	early := a.early
	a.mu.Unlock()

	server, err := net.Dial("tcp", node)
	if err != nil {
		return
	}
	defer server.Close()
	var up sync.WaitGroup
	up.Go(func() {
		r := bufio.NewReaderSize(client, 32<<10)
		if head, err := r.Peek(5); err == nil {
			first, _ := r.Peek(5 + min(int(binary.BigEndian.Uint16(head[3:])), 16<<10))
			a.mu.Lock()
			early[w] = offersEarlyData(first)
			a.mu.Unlock()
		}
		io.Copy(server, r)
		server.(*net.TCPConn).CloseWrite()
	})
	io.Copy(io.MultiWriter(client, w), server)
	client.Close()
	up.Wait()
}
